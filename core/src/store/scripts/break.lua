-- An administrator takes a lock away from whoever holds it. The next waiter is let in; the former
-- holders find out at their next call.
--
-- KEYS[1]  the lock
-- Returns  1 somebody held it   0 nobody did
--#include common.lua

settle()
local held = mode ~= 'F'
if mode == 'X' then
    previous = '!' .. holder
elseif mode == 'S' then
    redis.call('DEL', READERS, INFO)
    previous = '!' .. READERS_ALL
end
if held then
    mode = 'F'
    settle()
end
if state then
    save()
end
return held and 1 or 0
