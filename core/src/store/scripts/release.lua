-- Gives a lock back and hands it to whoever is next; or takes a waiter out of the queue.
--
-- Guarantees: only the holder's own token frees the lock; exactly one waiter is woken when it is
-- exclusive, all leading readers when they are; repeating a release is not an error; a waiter
-- that was handed the lock and does not want it any more passes it on. Works on a server that is
-- out of memory, too.
--
-- KEYS      1 the lock   2 (where servers have a grace period) see common.lua
-- ARGV     1 token   with KEYS[2], of a holder whose lease is not over by its own clock: 2 mode X|S
--          3 fencing token   and the last: how long a grace period is, in ms
-- Returns  1 it was ours and is free now   2 it had been broken   3 unknown here: data lost
--          4 somebody else has been let in since   6 it waited, and does so no more
--          and 10 more: this step has left work, so that somebody may wait who is next: to be sent
--          again, with whatever token, until it says so no more
local period = KEYS[2] and tonumber(table.remove(ARGV))
local me, said = ARGV[1], 1

-- The fast path: held by me, nobody waits. Two commands; what remains of the record's life is
-- enough, and its holder becomes the last one that released.
local state = redis.call('GET', KEYS[1])
if state and string.sub(state, 1, 3 + #me) == 'X- ' .. me then
    local done = redis.pcall('SETRANGE', KEYS[1], 0, 'F')
    if type(done) == 'table' then
        -- OOM: a full server must still let go. The next fencing token comes from its clock.
        redis.call('DEL', KEYS[1])
    end
    return 1
end

--#include common.lua

if mode == 'X' and holder == me then
    mode, previous = 'F', ' ' .. me
elseif mode == 'S' and drop_reader(me) then
    previous = ' ' .. me
else
    local why = standing(me, ARGV[2], tonumber(ARGV[3]))
    local waited = forget(me)
    if why == 0 then
        if mode == 'X' or ARGV[2] == 'X' then
            mode = 'F'
        end
        fence, previous = math.max(fence, tonumber(ARGV[3])), ' ' .. me
    elseif waited then
        said = 6
    else
        if mode ~= 'X' and redis.call('EXISTS', QUEUE) == 1 then
            settle() -- a step may have left work
        end
        if moved then
            save()
        end
        return why + (unfinished and LEFT or 0)
    end
end
settle()
save()
return said + (unfinished and LEFT or 0)
