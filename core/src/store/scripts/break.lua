-- An administrator takes a lock away from whoever holds it. The next waiter is let in; the former
-- holders find out at their next call. A waiter whose turn it is anyway, because the holder's lease
-- has run out, is let in and keeps the lock.
--
-- KEYS[1]  the lock
-- Returns  1 somebody held it   0 nobody did
--#include common.lua

local held = false
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
