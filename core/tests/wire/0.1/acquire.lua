-- One try to hold a lock: takes it when it is free and nobody waits, else queues (or gives up).
--
-- Guarantees: at most one exclusive holder, or any number of readers; first come, first served,
-- readers behind a waiting writer wait; the fencing token is greater than any before, also after
-- the data was lost. Idempotent: a holder's token gets the same fencing token again and a full
-- lease (this is also how a waiter confirms a hand-off); a waiter's token keeps its place and
-- renews its heartbeat. A holder's token with the other mode converts: down at once, up by
-- leaving the readers and queueing; but only what it was told to, so that a request which is late
-- changes nothing.
--
-- KEYS[1]  the lock
-- ARGV     1 token   2 mode X|S   3 lease in ms   4 Q queue when busy | G give up when busy
--          | Y of a quorum: queue at exactly the place given, also what this token holds here, so
--          that whoever came before gets it
--          5 place: arrival rank given by an earlier try, 0 at first   6 identity
--          7 how long to keep the record: lease + RETAIN of common.lua, in ms
--          8 when it converts: the fencing token of what it holds
--          9 (of a quorum) the fencing token that is wanted, 16 digits, for a grant to this token;
--          taken when it is greater than what would be given, and not more than 1 s ahead
-- Returns  held: the fencing token (integer)
--          busy: {place, ms until the lease that blocks runs out, identity of one holder}
local me, wanted = ARGV[1], ARGV[2]

-- The fast path: free, and known to have no waiters. Three commands.
local head = redis.call('GETRANGE', KEYS[1], 0, 51)
if wanted == 'X' and string.byte(head) == 70 and #head == 52 then
    local clock = redis.call('TIME')
    local us = clock[1] .. string.sub('00000' .. clock[2], -6)
    local last = string.sub(head, 37)
    local token, keep = us, ARGV[7]
    if ARGV[9] and ARGV[9] > us and ARGV[9] - us <= 1000000 then
        token = ARGV[9]
    end
    if last >= token then
        -- This server's clock was set back: the record must outlive the difference.
        token = string.format('%.0f', last + 1)
        keep = keep + math.floor((token - us) / 1000)
    end
    redis.call('SET', KEYS[1], 'X- ' .. me .. ' ' .. token .. ' ' .. us .. ' ' .. us .. ' ' .. ARGV[3]
        .. string.sub(head, 3, 35) .. ' ' .. ARGV[6], 'PX', keep)
    return tonumber(token)
end
local ttl = tonumber(ARGV[3])

--#include common.lua

if ARGV[9] and ARGV[9] - now_us <= 1000000 then
    floor = tonumber(ARGV[9])
end
if ARGV[4] == 'Y' then
    if mode == 'X' and holder == me then
        mode = 'F'
    elseif mode == 'S' then
        drop_reader(me)
    end
elseif mode == 'X' and holder == me then
    redis.call('DEL', MAIL .. me)
    if wanted == 'X' then
        start, lease = now_us, ttl
        save()
        return fence
    elseif fence > tonumber(ARGV[8] or 0) then
        return {tonumber(ARGV[5]), expiry() - now, identity} -- late, from before a conversion
    end
    local mine = grant(me, 'S', ARGV[6], ttl)
    settle()
    save()
    return mine
elseif mode == 'S' and redis.call('ZSCORE', READERS, me) then
    redis.call('DEL', MAIL .. me)
    local record = redis.call('HGET', INFO, me)
    local own, who = string.match(record or '', '^(%d+) %d+ (.*)$')
    if wanted == 'S' and record then
        redis.call('ZADD', READERS, now + ttl, me)
        save()
        return tonumber(own)
    elseif record and tonumber(own) > tonumber(ARGV[8] or 0) then
        return {tonumber(ARGV[5]), tonumber(redis.call('ZSCORE', READERS, me)) - now, who} -- late, too
    end
    -- To convert; or its record was evicted, and with it its fencing token: it needs a new one.
    drop_reader(me)
end

local queued = ARGV[4] ~= 'Y' and redis.call('ZSCORE', QUEUE, me)
local place = tonumber(queued or ARGV[5])
local waits = queued and redis.call('HGET', WAITERS, me)
if waits and string.match(waits, '^%d+ (%u)') ~= wanted then
    return {place, DEAD, ''} -- late; a wait does not change its mode
end
if place == 0 then
    local last = redis.call('ZRANGE', QUEUE, -1, -1, 'WITHSCORES')[2]
    place = math.max(now_us, tonumber(last or 0) + 1)
end
redis.call('ZADD', QUEUE, place, me)
redis.call('HSET', WAITERS, me, string.format('%.0f %s %.0f %s', now, wanted, place, ARGV[6]))
-- A grant that this waiter slept through has run out by now: it must not be believed later.
redis.call('DEL', MAIL .. me)
local mine = settle(me, ttl)
if not mine and ARGV[4] == 'G' then
    forget(me)
    settle()
end
save()
if mine then
    return mine
end
if mode == 'X' then
    return {place, expiry() - now, identity}
end
local first = redis.call('ZRANGE', READERS, 0, 0, 'WITHSCORES')
local record = first[1] and redis.call('HGET', INFO, first[1]) or ''
return {place, tonumber(first[2] or now) - now, string.match(record, '^%d+ %d+ (.*)$') or ''}
