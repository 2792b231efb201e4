-- Extends a holder's lease to `ttl` from now. Never takes a lock that is not held. Works on a server
-- that is out of memory, too.
--
-- KEYS[1]  the lock
-- ARGV     1 token   2 lease in ms   3 (of a quorum) the holder's fencing token, which is greater than
--          the one given here: the next ones must be greater than that
-- Returns  1 extended   2 it was broken   3 unknown here: data lost   4 somebody else's since
local me, ttl = ARGV[1], tonumber(ARGV[2])

--#include common.lua

if mode == 'X' and holder == me then
    start, lease = now_us, ttl
    fence = math.max(fence, tonumber(ARGV[3] or 0))
elseif mode == 'S' and redis.call('ZSCORE', READERS, me) then
    redis.call('PEXPIRE', READERS, RETAIN) -- see save() on memory
    redis.call('ZADD', READERS, now + ttl, me)
    if ARGV[3] then
        local rest = string.match(redis.call('HGET', INFO, me) or '', '^%d+( .*)$')
        redis.call('HSET', INFO, me, ARGV[3] .. (rest or ' 0 '))
        fence = math.max(fence, tonumber(ARGV[3]))
    end
else
    local why = standing(me)
    return why == 1 and 4 or why
end
save()
return 1
