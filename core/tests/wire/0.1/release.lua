-- Gives a lock back and hands it to whoever is next; or takes a waiter out of the queue.
--
-- Guarantees: only the holder's own token frees the lock; exactly one waiter is woken when it is
-- exclusive, all leading readers when they are; repeating a release is not an error; a waiter
-- that was handed the lock and does not want it any more passes it on. Works on a server that is
-- out of memory, too.
--
-- KEYS[1]  the lock
-- ARGV     1 token
-- Returns  1 it was ours and is free now   2 it had been broken   3 unknown here: data lost
--          4 somebody else has been let in since
local me = ARGV[1]

-- The fast path: held by me, nobody waits. Two commands; what remains of the record's life is
-- enough, and its holder becomes the last one that released.
local mine = 'X- ' .. me
if redis.call('GETRANGE', KEYS[1], 0, #mine - 1) == mine then
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
elseif not forget(me) then
    return standing(me)
end
settle()
save()
return 1
