-- An administrator takes a lock away from whoever holds it. The next waiter is let in; the former
-- holders find out at their next call. A waiter whose turn it is anyway, because the holder's lease
-- has run out, is let in and keeps the lock. Whatever else has been written to the keys of the lock, and is
-- in the way of every other step, goes too.
--
-- KEYS[1]  the lock
-- Returns  1 somebody held it, or something was in the way   0 nobody did
local held = false
for _, probe in ipairs({{'', 'GET'}, {':q', 'ZCARD'}, {':r', 'ZCARD'}, {':w', 'HGET', ''}, {':i', 'HGET', ''}}) do
    local found = redis.pcall(probe[2], KEYS[1] .. probe[1], unpack(probe, 3))
    if type(found) == 'table' and string.find(found.err or '', 'WRONGTYPE', 1, true) then
        redis.call('DEL', KEYS[1] .. probe[1])
        held = true
    end
end

--#include common.lua

held = held or foreign
if mode == 'X' and expiry() > now then
    held, mode, previous = true, 'F', '!' .. holder
elseif mode == 'S' and redis.call('ZRANGEBYSCORE', READERS, '(' .. now, '+inf')[1] then
    held, mode, previous = true, 'F', '!' .. READERS_ALL
    redis.call('DEL', READERS, INFO)
end
settle()
if state or mode ~= 'F' then
    save()
end
return held and 1 or 0
