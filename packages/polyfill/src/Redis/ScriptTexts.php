<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

/** The scripts and their SHA-1. Made by script/polyfill-scripts: not for editing. */
final class ScriptTexts
{
    private const COMMON = <<<'LUA'
-- What all steps share: the state of one lock, and the rules by which it moves.
--
-- Keys, all in the hash slot of KEYS[1] = PREFIX{NAME}:
--   KEYS[1]          string "MW TOKEN FENCE SINCE START LEASE PREVIOUS IDENTITY"
--                      M: X exclusively held, S shared, F free.  W: + when somebody waits, else -
--                      TOKEN: of the exclusive holder, 32 characters
--                      FENCE: the newest fencing token, 16 digits
--                      SINCE, START: when it was let in and when the lease began, us, this
--                      server's clock; START of a shared one: the last step. LEASE: ms
--                      PREVIOUS: token of the last release, 32 characters; ! instead of the blank
--                      before it: not released but broken
--                    In a free one TOKEN is PREVIOUS, and what follows FENCE is void: to release is
--                    to change one character. What the fast paths read has a fixed place, and they
--                    put numbers together from strings, because in Lua a pattern costs half as
--                    much as a command, and formatting a number as much as one.
--   KEYS[1]..':q'    sorted set: waiters' tokens by arrival
--   KEYS[1]..':w'    hash: waiter's token -> "HEARTBEAT MODE ARRIVAL IDENTITY"
--   KEYS[1]..':r'    sorted set: readers' tokens by expiry
--   KEYS[1]..':i'    hash: reader's token -> "FENCE SINCE IDENTITY"
--   KEYS[1]..':m:'.. list, one a waiter: the mailbox in which it sleeps (BLPOP)
--
-- Invariants: a free lock has no living waiter (each step ends with settle()), so that the fast
-- paths need not look; every key expires by itself.
local key = KEYS[1]
local QUEUE, WAITERS, READERS, INFO, MAIL = key .. ':q', key .. ':w', key .. ':r', key .. ':i', key .. ':m:'
-- RETAIN: how long an idle name remembers its last fencing token, so that tokens grow even when
-- this server's clock is set back. GRANT: the lease of a waiter that was handed the lock and has
-- not yet confirmed. DEAD: a waiter is heard of every second, or is dead. All in ms.
local RETAIN, GRANT, DEAD, QUEUE_LIFE = 60000, 2200, 1800, 60000
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)

local state = redis.call('GET', key)
local NOBODY, READERS_ALL = string.rep('-', 32), string.rep('S', 32)
local mode, holder, fence, since, start, lease, previous, identity = 'F', NOBODY, 0, 0, 0, 0, ' ' .. NOBODY, ''
if state and string.byte(state) == 70 then
    previous, fence = string.match(state, '^F.([ !]%S+) (%d+)')
    fence = tonumber(fence)
elseif state then
    mode, holder, fence, since, start, lease, previous, identity =
        string.match(state, '^([XS]). (%S+) (%d+) (%d+) (%d+) (%d+)([ !]%S+) (.*)$')
    fence, since, start, lease = tonumber(fence), tonumber(since), tonumber(start), tonumber(lease)
end
-- Something else has written to this key. Only break.lua goes on, when no token is meant.
local foreign = state and not (fence and fence < 1e16 and since < 1e16 and start < 1e16 and lease < 1e13)
if foreign then
    if ARGV[1] then
        return redis.error_reply('NOTALOCK the record of this lock cannot be read')
    end
    mode, holder, fence, since, start, lease, previous, identity = 'F', NOBODY, 0, 0, 0, 0, ' ' .. NOBODY, ''
end
-- When the exclusive holder's lease runs out, in ms.
local function expiry()
    return math.floor(start / 1000) + lease
end

local function save()
    local keep = RETAIN + math.max(0, math.floor(fence / 1000) - now)
    if mode == 'X' then
        keep = keep + math.max(0, expiry() - now)
    elseif mode == 'S' then
        keep = keep + math.max(0, tonumber(redis.call('ZRANGE', READERS, -1, -1, 'WITHSCORES')[2] or now) - now)
        redis.call('PEXPIRE', READERS, keep)
        redis.call('PEXPIRE', INFO, keep)
    end
    local flag = '-'
    -- Before the SET also for this reason: a server that is out of memory refuses commands that may
    -- need some, except in a script that has begun to write. Who holds a lock must be able to keep
    -- it and to let go.
    if redis.call('PEXPIRE', QUEUE, QUEUE_LIFE) == 1 then
        redis.call('PEXPIRE', WAITERS, QUEUE_LIFE)
        flag = '+'
    end
    local record
    if mode == 'F' then
        record = string.format('F%s%s %016.0f', flag, previous, fence)
    elseif mode == 'X' then
        record = string.format('X%s %s %016.0f %.0f %.0f %.0f%s %s',
            flag, holder, fence, since, start, lease, previous, identity)
    else
        record = string.format('S%s %s %016.0f 0 %.0f 0%s ', flag, NOBODY, fence, now_us, previous)
    end
    redis.call('SET', key, record, 'PX', keep)
end

-- This server's clock was set back: a holder that has died must not block for the difference, too. An
-- exclusive lease begins anew; from the readers' leases goes what the clock has lost, as far as it is seen.
if start > now_us then
    if mode == 'S' then
        local all, lost = redis.call('ZRANGE', READERS, 0, -1, 'WITHSCORES'), math.floor(start / 1000) - now
        for i = 1, #all, 2 do
            redis.call('ZADD', READERS, all[i + 1] - lost, all[i])
        end
    end
    start = now_us
    save()
end

local function forget(token)
    redis.call('DEL', MAIL .. token)
    redis.call('HDEL', WAITERS, token)
    return redis.call('ZREM', QUEUE, token) == 1
end

-- What a fencing token must reach, when its holder asks for that (acquire.lua).
local floor = 0

local function grant(token, wanted, who, ttl)
    fence = math.max(fence + 1, now_us, floor)
    if wanted == 'X' then
        mode, holder, since, start, lease, identity = 'X', token, now_us, now_us, ttl, who
    else
        if mode ~= 'S' then
            -- Readers whose lock was forgotten (its record alone was evicted) must not come back.
            redis.call('DEL', READERS, INFO)
        end
        mode = 'S'
        redis.call('ZADD', READERS, now + ttl, token)
        redis.call('HSET', INFO, token, string.format('%.0f %.0f %s', fence, now_us, who))
    end
    return fence
end

local function drop_reader(token)
    if redis.call('ZREM', READERS, token) == 0 then
        return false
    end
    redis.call('HDEL', INFO, token)
    if redis.call('ZCARD', READERS) == 0 then
        mode = 'F'
    end
    return true
end

-- Frees the lock of dead holders and lets in those whose turn it is: the head of the queue, and
-- behind a reader the readers that follow it. Whoever has not been heard of loses its turn. The
-- lock is granted to `me` (who is here to confirm) for `ttl`, to others for GRANT, by mail.
-- Returns my fencing token if I was let in.
local function settle(me, ttl)
    if mode == 'X' and expiry() <= now then
        mode = 'F'
    elseif mode == 'S' then
        for _, token in ipairs(redis.call('ZRANGEBYSCORE', READERS, '-inf', now)) do
            drop_reader(token)
        end
        -- The set itself may have been evicted.
        if mode == 'S' and redis.call('EXISTS', READERS) == 0 then
            mode = 'F'
        end
    end
    local mine = nil
    while mode ~= 'X' do
        local head = redis.call('ZRANGE', QUEUE, 0, 0)[1]
        if not head then
            break
        end
        local record = redis.call('HGET', WAITERS, head)
        local beat, wanted, who = string.match(record or '', '^(%d+) ([XS]) %d+ (.*)$')
        -- A heartbeat from the future: the clock was set back, and whoever lives will be heard of again.
        if not beat or math.abs(now - tonumber(beat)) > DEAD then
            forget(head)
        elseif wanted == 'X' and mode == 'S' then
            break
        else
            forget(head)
            if head == me then
                mine = grant(head, wanted, who, ttl)
            else
                local token = grant(head, wanted, who, GRANT)
                redis.call('RPUSH', MAIL .. head, string.format('%.0f %.0f', token, GRANT))
                redis.call('PEXPIRE', MAIL .. head, GRANT)
            end
        end
    end
    return mine
end

-- Why a token that is not a holder's is not: 2 broken, 3 unknown here, 4 somebody else's since.
-- 1: it released already (its first reply was lost).
local function standing(token)
    if previous == ' ' .. token then
        return 1
    elseif previous == '!' .. token or previous == '!' .. READERS_ALL then
        return 2
    elseif not state then
        return 3
    end
    return 4
end

LUA;

    public const ALL = [
'acquire' => [<<<'LUA'
--!df flags=allow-undeclared-keys
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


LUA . self::COMMON . <<<'LUA'


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
local done, mine = pcall(function()
    redis.call('HSET', WAITERS, me, string.format('%.0f %s %.0f %s', now, wanted, place, ARGV[6]))
    -- A grant that this waiter slept through has run out by now: it must not be believed later.
    redis.call('DEL', MAIL .. me)
    local mine = settle(me, ttl)
    if not mine and ARGV[4] == 'G' then
        forget(me)
        settle()
    end
    save()
    return mine
end)
if not done then
    -- A command that this user may not give: what the others have made by now must not stay for ever.
    for _, made in ipairs({QUEUE, WAITERS, READERS, INFO}) do
        redis.call('PEXPIRE', made, QUEUE_LIFE)
    end
    error(mine, 0)
end
if mine then
    return mine
end
if mode == 'X' then
    return {place, expiry() - now, identity}
end
local first = redis.call('ZRANGE', READERS, 0, 0, 'WITHSCORES')
local record = first[1] and redis.call('HGET', INFO, first[1]) or ''
return {place, tonumber(first[2] or now) - now, string.match(record, '^%d+ %d+ (.*)$') or ''}

LUA, '0588a69a4b8ab9ce41949c7363928aff40a81971'],
'release' => [<<<'LUA'
--!df flags=allow-undeclared-keys
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


LUA . self::COMMON . <<<'LUA'


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

LUA, 'f63dde96135173b12f40465af676079d2c98ece1'],
'renew' => [<<<'LUA'
--!df flags=allow-undeclared-keys
-- Extends a holder's lease to `ttl` from now. Never takes a lock that is not held. Works on a server
-- that is out of memory, too.
--
-- KEYS[1]  the lock
-- ARGV     1 token   2 lease in ms   3 (of a quorum) the holder's fencing token, which is greater than
--          the one given here: the next ones must be greater than that
-- Returns  1 extended   2 it was broken   3 unknown here: data lost   4 somebody else's since
local me, ttl = ARGV[1], tonumber(ARGV[2])


LUA . self::COMMON . <<<'LUA'


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

LUA, '2dd9ad02a485e0c06e1a6d9bda23a8ff27d2c27f'],
'break' => [<<<'LUA'
--!df flags=allow-undeclared-keys
-- An administrator takes a lock away from whoever holds it. The next waiter is let in; the former
-- holders find out at their next call. A waiter whose turn it is anyway, because the holder's lease
-- has run out, is let in and keeps the lock. Whatever else has been written to the keys of the lock, and is
-- in the way of every other step, goes too.
--
-- With a fencing token it takes the lock from the holder who was seen, and from nobody else: it must be the
-- newest that was given out, so that nobody has been let in since. Then it can be repeated, and clears nothing
-- that is no lock's.
--
-- KEYS[1]  the lock
-- ARGV     1 (optional) the fencing token of the holder who is meant
-- Returns  1 somebody held it, or something was in the way   0 nobody did
--          2 another one than meant holds it: nothing was done
--          3 as 2, 4 as 0, and who held it before was broken: by an earlier try, if its reply was lost
local meant, held = tonumber(ARGV[1]), false
for _, probe in ipairs({{'', 'GET'}, {':q', 'ZCARD'}, {':r', 'ZCARD'}, {':w', 'HGET', ''}, {':i', 'HGET', ''}}) do
    local found = not meant and redis.pcall(probe[2], KEYS[1] .. probe[1], unpack(probe, 3))
    if type(found) == 'table' and string.find(found.err or '', 'WRONGTYPE', 1, true) then
        redis.call('DEL', KEYS[1] .. probe[1])
        held = true
    end
end


LUA . self::COMMON . <<<'LUA'


held = held or foreign
local writes = mode == 'X' and expiry() > now
local reads = mode == 'S' and redis.call('ZRANGEBYSCORE', READERS, '(' .. now, '+inf')[1]
local repeated = meant and string.byte(previous) == 33
if meant and fence ~= meant and (writes or reads) then
    return repeated and 3 or 2
elseif writes then
    held, mode, previous = true, 'F', '!' .. holder
elseif reads then
    held, mode, previous = true, 'F', '!' .. READERS_ALL
    redis.call('DEL', READERS, INFO)
end
settle()
if state or mode ~= 'F' then
    save()
end
return held and 1 or repeated and 4 or 0

LUA, '16cce336fb43867be8e8e21bff511945ba1f0f02'],
'inspect' => [<<<'LUA'
--!df flags=allow-undeclared-keys
-- Who holds, who waits: of many some, and how many there are. Changes nothing.
--
-- KEYS[1]  the lock
-- ARGV[1]  so many readers, and so many waiters, are told at most. The bound of what this does: of
--          1,000 it takes 1 ms, however many there are
-- Returns  {now in ms, state or '', readers' expiries, their records, how many readers more,
--          waiters' records, how many waiters more}, the records as common.lua lays them out, nil
--          where one is missing: of the readers whose leases run longest, and of the first waiters
local clock = redis.call('TIME')
local key, most = KEYS[1], tonumber(ARGV[1])
local function more(set, told)
    return told < most and 0 or redis.call('ZCARD', set) - told
end
local expiries, readers, waiters = {}, {}, {}
local longest = redis.call('ZRANGE', key .. ':r', -most, -1, 'WITHSCORES')
for i = 1, #longest, 2 do
    expiries[#expiries + 1] = longest[i + 1]
    readers[#readers + 1] = redis.call('HGET', key .. ':i', longest[i])
end
for i, token in ipairs(redis.call('ZRANGE', key .. ':q', 0, most - 1)) do
    waiters[i] = redis.call('HGET', key .. ':w', token)
end
return {
    clock[1] * 1000 + math.floor(clock[2] / 1000),
    redis.call('GET', key) or '',
    expiries,
    readers,
    more(key .. ':r', #readers),
    waiters,
    more(key .. ':q', #waiters),
}

LUA, 'cbb864acea8c04cf199c001d62a547bccb8c96aa'],
    ];
}
