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
-- Something else has written to this key. Only break.lua, which has no token, goes on.
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
