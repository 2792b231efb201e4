-- Gives a lock back and hands it to whoever is next; or takes a waiter out of the queue. Or says that the run of
-- its holder is complete: then those whom it covers (common.lua) are told, and leave the queue.
--
-- Guarantees: only the holder's own token frees the lock; exactly one waiter is woken when it is
-- exclusive, all leading readers when they are; repeating a release is not an error; a waiter
-- that was handed the lock and does not want it any more passes it on. Works on a server that is
-- out of memory, too. A run counts only when its holder still has the lock, by the same fencing token.
--
-- KEYS      1 the lock   2 (where servers have a grace period) see common.lua
-- ARGV     1 token   of a run that is complete: 2 O   3 the fencing token that its holder was given
--          with KEYS[2], of a holder whose lease is not over by its own clock: 2 mode X|S|O   3 fencing
--          token   and the last: how long a grace period is, in ms
-- Returns  1 it was ours and is free now   2 it had been broken   3 unknown here: data lost
--          4 somebody else has been let in since   6 it waited, and does so no more
--          of a run: 1 it counts   5 it does not, but a later one is complete   else it does not
--          and 10 more: this step has left work, so that somebody may wait who is next: to be sent
--          again, with whatever token, until it says so no more
local period = KEYS[2] and tonumber(table.remove(ARGV))
local me, said, run = ARGV[1], 1, ARGV[2] == 'O' and tonumber(ARGV[3])

-- The fast path: held by me, nobody waits. Two commands, for a run four; what remains of the record's life is
-- enough, and its holder becomes the last one that released.
local state = redis.call('GET', KEYS[1])
if state and string.sub(state, 1, 3 + #me) == 'X- ' .. me
    and (not run or run == tonumber(string.sub(state, 37, 52))) then
    if run then
        redis.call('PEXPIRE', KEYS[1] .. ':d', 60000) -- see save() of common.lua on memory
        redis.call('SET', KEYS[1] .. ':d', string.format('%016.0f', run), 'PX', 60000)
    end
    local done = redis.pcall('SETRANGE', KEYS[1], 0, 'F')
    if type(done) == 'table' then
        -- OOM: a full server must still let go. The next fencing token comes from its clock.
        redis.call('DEL', KEYS[1])
    end
    return 1
end

--#include common.lua

local unknown = false
if mode == 'X' and holder == me then
    mode, previous = 'F', ' ' .. me
    if run == fence then
        redis.call('PEXPIRE', key .. ':d', 60000)
        redis.call('SET', key .. ':d', string.format('%016.0f', run), 'PX', 60000)
    end
elseif mode == 'S' and drop_reader(me) then
    previous = ' ' .. me
else
    local why = standing(me, ARGV[2], tonumber(ARGV[3]))
    local waited = forget(me)
    if why == 0 then
        if mode == 'X' or ARGV[2] ~= 'S' then
            mode = 'F'
        end
        fence, previous = math.max(fence, tonumber(ARGV[3])), ' ' .. me
        -- Of a run those who came since may not know; its holder does.
        run = false
    elseif waited then
        said = 6
    else
        said, unknown = why, true
    end
end
if not unknown or (mode ~= 'X' or runners) and redis.call('EXISTS', QUEUE) == 1 then
    settle() -- also where it is unknown: a step may have left work
end
if not unknown or moved then
    save()
end
if run then
    local newest = run_done()
    if newest >= run then
        said = newest == run and 1 or 5
    elseif said == 1 or said == 6 then
        -- That it was released, or waits no more, says nothing of the run.
        said = 4
    end
end
return said + ((unfinished or left_over) and LEFT or 0)
