-- Extends a holder's lease to `ttl` from now. Never takes a lock that is not held: while a grace period runs, in
-- which nobody is let in, the record of a holder is put back that is unknown here. Works on a server that is out of
-- memory, too.
--
-- KEYS      1 the lock   2 (where servers have a grace period) see common.lua
-- ARGV     1 token   2 lease in ms   3 (of a quorum) the number of the newest attempt with this token:
--          an older one must not take the lock back   4 (of a quorum, to be confirmed) the holder's fencing
--          token, when it is greater than the one given here: the next ones must be greater than that; and
--          5 the mode X|S in which it must be known here
--          with KEYS[2], of a holder whose lease is not over by its own clock: 3 as for a quorum, else 0
--          4 its fencing token   5 mode X|S   6 identity, as acquire.lua has it   and the last: how long a
--          grace period is, in ms
-- Returns  1 extended   2 it was broken   3 unknown here: data lost   4 somebody else's since
--          5 extended, by the holder's word alone: it was put back, or may have been; which counts only
--          while the lease that it had is not over
--          and the fencing token that was given here, extended, when it is greater than the one to be confirmed
local period = KEYS[2] and tonumber(table.remove(ARGV))
local me, ttl = ARGV[1], tonumber(ARGV[2])
local state = redis.call('GET', KEYS[1])

--#include common.lua

-- Of a quorum: the number of the attempt that an identity begins with, and the identity with that of a newer one.
local function number(who)
    return tonumber(string.match(who or '', '^(%d+) ') or 0)
end

local function raised(who, attempt)
    if attempt <= number(who) then
        return who
    end
    return string.format('%.0f %s', attempt, string.match(who, '^%d+ (.*)$') or who)
end

local extended = state and string.byte(state, 2) == 63 and 5 or 1
local asked = not ARGV[6] and tonumber(ARGV[4])
-- How it is held, when that is said: what is known here may be from before a conversion, from which a late renewal has put
-- it back.
if mode == 'X' and holder == me and ARGV[5] ~= 'S' then
    start, lease = now_us, ttl
    extended = asked and fence > asked and fence or extended
    fence = math.max(fence, tonumber(ARGV[4] or 0))
    identity = ARGV[3] and raised(identity, tonumber(ARGV[3])) or identity
elseif mode == 'S' and ARGV[5] ~= 'X' and redis.call('ZSCORE', READERS, me) then
    redis.call('PEXPIRE', READERS, RETAIN) -- see save() on memory
    redis.call('ZADD', READERS, now + ttl, me)
    local record = ARGV[3] and redis.call('HGET', INFO, me) or ''
    local own, entered, who = string.match(record, '^(%d+) (%d+) (.*)$')
    local newest = math.max(tonumber(own or 0), tonumber(ARGV[4] or 0))
    extended = asked and newest > asked and newest or extended
    if newest > tonumber(own or 0) or own and number(who) < tonumber(ARGV[3]) then
        who = raised(who or ARGV[6] or '', tonumber(ARGV[3]))
        redis.call('HSET', INFO, me, string.format('%.0f %.0f %s', newest, entered or 0, who))
        fence = math.max(fence, newest)
    end
    if redis.call('EXISTS', QUEUE) == 1 then
        settle() -- a step may have left work
    end
else
    local why = standing(me, ARGV[6] and ARGV[5], tonumber(ARGV[4]))
    if why > 0 then
        return why == 1 and 4 or why
    end
    forget(me)
    grant(me, ARGV[5], ARGV[6], ttl, tonumber(ARGV[4]), text(math.min(tonumber(ARGV[4]), now_us)))
    extended = 5
end
save()
return extended
