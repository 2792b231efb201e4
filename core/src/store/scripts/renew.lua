-- Extends a holder's lease to `ttl` from now. Never takes a lock that is not held. Works on a server
-- that is out of memory, too.
--
-- KEYS[1]  the lock
-- ARGV     1 token   2 lease in ms   3 (of a quorum) the number of the newest attempt with this token:
--          an older one must not take the lock back   4 (of a quorum) the holder's fencing token, when it
--          is greater than the one given here: the next ones must be greater than that
-- Returns  1 extended   2 it was broken   3 unknown here: data lost   4 somebody else's since
local me, ttl = ARGV[1], tonumber(ARGV[2])
local state = redis.call('GET', KEYS[1])

--#include common.lua

if mode == 'X' and holder == me then
    start, lease = now_us, ttl
    fence = math.max(fence, tonumber(ARGV[4] or 0))
    identity = ARGV[3] and raised(identity, tonumber(ARGV[3])) or identity
elseif mode == 'S' and redis.call('ZSCORE', READERS, me) then
    redis.call('PEXPIRE', READERS, RETAIN) -- see save() on memory
    redis.call('ZADD', READERS, now + ttl, me)
    local record = ARGV[3] and redis.call('HGET', INFO, me) or ''
    local own, entered, who = string.match(record, '^(%d+) (%d+) (.*)$')
    if ARGV[4] or own and number(who) < tonumber(ARGV[3]) then
        own, who = ARGV[4] or own, raised(who or '', tonumber(ARGV[3]))
        redis.call('HSET', INFO, me, own .. ' ' .. (entered or 0) .. ' ' .. who)
        fence = math.max(fence, tonumber(own))
    end
    if redis.call('EXISTS', QUEUE) == 1 then
        settle() -- a step may have left work
    end
else
    local why = standing(me)
    return why == 1 and 4 or why
end
save()
return 1
