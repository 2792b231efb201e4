-- An administrator takes a lock away from whoever holds it. The next waiter is let in; the former
-- holders find out at their next call. A waiter whose turn it is anyway, because the holder's lease
-- has run out, is let in and keeps the lock. Whatever else has been written to the keys of the lock, and is
-- in the way of every other step, goes too.
--
-- With a fencing token it takes the lock from the holder who was seen, and from nobody else: it must be the
-- newest that was given out, so that nobody has been let in since. Then it can be repeated, and clears nothing
-- that is no lock's.
--
-- In a grace period whoever may hold it, of whom nothing is known, is broken with the others: without a token for good,
-- and the lock is free; with one who was given no greater one.
--
-- KEYS      1 the lock   2 (where servers have a grace period) see common.lua
-- ARGV     1 (optional) the fencing token of the holder who is meant   and with KEYS[2] the last: how long a
--          grace period is, in ms
-- Returns  1 somebody held it, or something was in the way   0 nobody did
--          2 another one than meant holds it: nothing was done
--          3 as 2, 4 as 0, and who held it before was broken: by an earlier try, if its reply was lost
--          and 10 more: this step has left work, with which a release with whatever token goes on
local period = KEYS[2] and tonumber(table.remove(ARGV))
local meant, held = tonumber(ARGV[1]), false
for _, probe in ipairs({{'', 'GET'}, {':q', 'ZCARD'}, {':r', 'ZCARD'}, {':w', 'HGET', ''}, {':i', 'HGET', ''}, {':o', 'ZCARD'},
    {':d', 'GET'}}) do
    local found = not meant and redis.pcall(probe[2], KEYS[1] .. probe[1], unpack(probe, 3))
    if type(found) == 'table' and string.find(found.err or '', 'WRONGTYPE', 1, true) then
        redis.call('DEL', KEYS[1] .. probe[1])
        held = true
    end
end

local state = redis.call('GET', KEYS[1])

--#include common.lua

held = held or foreign
local writes = mode == 'X' and expiry() > now
local reads = mode == 'S' and redis.call('ZRANGEBYSCORE', READERS, '(' .. now, '+inf', 'LIMIT', 0, 1)[1]
local repeated = meant and string.byte(previous) == 33
-- No more than one that may have been given out: a record with a greater one would be in the way for ever.
local silent = grace > 0 and (not meant or fence < meant and meant <= now_us + 1000000)
if meant and fence ~= meant and (writes or reads) and not silent then
    return repeated and 3 or 2
elseif writes then
    held, mode, previous = true, 'F', '!' .. holder
elseif reads then
    held, mode, previous = true, 'F', '!' .. READERS_ALL
    redis.call('DEL', READERS, INFO)
end
if silent then
    held, mode, fence = true, 'F', math.max(fence, meant or 0)
    previous = writes and not meant and previous or '!' .. READERS_ALL
    grace = meant and grace or 0
end
settle()
if state or silent or mode ~= 'F' then
    save()
end
return (held and 1 or repeated and 4 or 0) + ((unfinished or left_over) and LEFT or 0)
