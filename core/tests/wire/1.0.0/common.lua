-- What all steps share: the state of one lock, and the rules by which it moves. Who includes it has
-- read the lock's record before: `state`; and, where there is KEYS[2], taken the last argument off:
-- `period`.
--
-- Keys, all in the hash slot of KEYS[1] = PREFIX{NAME}:
--   KEYS[1]          string "MW TOKEN FENCE SINCE START LEASE PREVIOUS IDENTITY"
--                      M: X exclusively held, S shared, F free.  W: + when somebody waits, else -;
--                      * when some of them sleep for long, and are to be called up; o, O in place of
--                      +, * when some of them wait for a run; ? as O, and by this server's memory alone it
--                      is not known that nobody else holds it (`grace`)
--                      TOKEN: of the exclusive holder, 32 characters
--                      FENCE: the newest fencing token, 16 digits
--                      SINCE, START: when it was let in and when the lease began, us, this
--                      server's clock; START of a shared one: the last step. LEASE: ms
--                      PREVIOUS: token of the last release, 32 characters; ! instead of the blank
--                      before it: not released but broken
--                      IDENTITY: of who holds it, as the claim said it, here and below. Of a quorum
--                      the number of an attempt and a blank come first: of the newest one with this
--                      token that is known here
--                    In a free one TOKEN is PREVIOUS, and what follows FENCE is void: to release is
--                    to change one character. What the fast paths read has a fixed place, and they
--                    put numbers together from strings, because in Lua a pattern costs half as
--                    much as a command, and formatting a number as much as one.
--   KEYS[1]..':q'    sorted set: waiters' tokens by arrival: its moment, us, but greater than that of whoever came
--                    before, and than FENCE, whatever this server's clock says: ranks and fencing tokens are one order
--   KEYS[1]..':w'    hash: waiter's token -> "UNTIL MODE ARRIVAL IDENTITY"
--                      UNTIL: who is not heard of again by then is dead: ms, this server's clock, with a 0 before it.
--                      Without it, of version 0.1: when it was heard of last
--                      MODE: X, S, O (exclusively, for a run); x, s, o of one who sleeps for long
--                      and is to be called up
--   KEYS[1]..':r'    sorted set: readers' tokens by expiry
--   KEYS[1]..':i'    hash: reader's token -> "FENCE SINCE IDENTITY"
--   KEYS[1]..':m:'.. list, one a waiter: the mailbox in which it sleeps (BLPOP): "FENCE LEASE" when it
--                    was let in, "0 0" when it is called up, to ask again, "FENCE 0" when the run of the
--                    holder with that fencing token covers it
--   KEYS[1]..':o'    sorted set: those of :q who wait for a run, by arrival; it lives as long
--   KEYS[1]..':d'    string: the fencing token of the newest run that is complete, for a minute
--   KEYS[2]          where servers have a grace period, for all their locks: PREFIX{}:born, string, when that of
--                    this one is over, ms, this server's clock. Without expiry: where it is missing, all else
--                    is. `period`: how long one is, ms; no lease is longer
--
-- A run is what a holder does for all who want it done: when it is complete it covers those who came
-- before its holder was let in, and they leave the queue. Since ranks and fencing tokens are one order
-- these are those with a smaller rank than its fencing token, whatever this server's clock says:
--   sound     a rank is greater than FENCE and :d, so than those of all who were let in before;
--   complete  the fencing token of who is let in for a run is greater than all ranks in :o, and :d.
--
-- Invariants: a lock that says F- or X- has no waiter, so that the fast paths need not look; a free one
-- that says otherwise has dead ones, and perhaps living ones behind them, whom the next steps let in
-- (each ends with settle()); every key but KEYS[2] expires by itself.
--
-- No step does more than a bounded amount of work (WORK), whatever lies there: some 1 ms. One that
-- leaves work says so, and is asked again. Two exceptions, which cost 10,000 readers some ms: they are
-- all gone through once when this server's clock was set back, and removed when they are broken.
--
-- To write a number costs as much as a command: so those that are written again are kept as text, too.
-- A function is made anew each time, and so is its hold on each local outside it that it uses, which is a good part of
-- a step's cost. So there are few functions here, and a constant stands in the function that it is for.
local key = KEYS[1]
local QUEUE, WAITERS, READERS, INFO, MAIL = key .. ':q', key .. ':w', key .. ':r', key .. ':i', key .. ':m:'
-- RETAIN: how long an idle name remembers its last fencing token, so that tokens grow even when
-- this server's clock is set back; and, for a grace period longer, what became of whoever held it.
-- QUEUE_LIFE: of a queue in which nobody is heard of. Both in ms.
local RETAIN, QUEUE_LIFE = 60000 + (period or 0), 60000
-- How often a waiter is heard of, in ms: the first NEAR every BEAT, those behind them less often, at last
-- every FAR. SLACK_MOST: how much later than that is not yet too late, at most.
local BEAT, FAR, NEAR, SLACK_MOST = 1000, 35000, 16, 5000
-- How much a step does at most: so many of the dead are taken out, of queue and readers, or are told that a run covers
-- them.
local WORK = 256
-- What a release or a break adds to its answer when it has left work.
local LEFT = 10
local clock = redis.call('TIME')
local us = clock[1] .. string.sub('00000' .. clock[2], -6)
local now_us = tonumber(us)
local now = math.floor(now_us / 1000)

-- What is left of this server's grace period, in ms, where it matters: it has no record of the lock, or one that was
-- put back. Whoever held the lock may do so still, and says it when it renews. Nobody is let in until that is over,
-- also when the only holder that is known has left: what it said may have been late, and another one be silent.
local grace = 0
if KEYS[2] and (not state or string.byte(state, 2) == 63) then
    -- What something else has written there says no more than nothing, and is overwritten: no number, or no string.
    local over = tonumber(redis.pcall('GET', KEYS[2]))
    if not over or over > now + period then
        over = now + period
        -- A server that is out of memory begins at each step.
        redis.pcall('SET', KEYS[2], string.format('%.0f', over))
    end
    grace = math.max(0, over - now)
end

local NOBODY, READERS_ALL = '--------------------------------', 'SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS'
local mode, holder, fence, since, start, lease, previous, identity = 'F', NOBODY, 0, '0', 0, 0, ' ' .. NOBODY, ''
local written -- the fencing token, as it stands there
if state and string.byte(state) == 70 then
    previous, written = string.match(state, '^F.([ !]%S+) (%d+)')
    fence = tonumber(written)
elseif state then
    mode, holder, written, since, start, lease, previous, identity =
        string.match(state, '^([XS]). (%S+) (%d+) (%d+) (%d+) (%d+)([ !]%S+) (.*)$')
    fence, start, lease = tonumber(written), tonumber(start), tonumber(lease)
end
local read = written and #written == 16 and fence
-- Something else has written to this key. Only break.lua goes on, when no token is meant.
local foreign = state and not (fence and fence < 1e16 and #since <= 16 and start < 1e16 and lease < 1e13)
if foreign then
    if ARGV[1] then
        return redis.error_reply('NOTALOCK the record of this lock cannot be read')
    end
    mode, holder, fence, since, start, lease, previous, identity = 'F', NOBODY, 0, '0', 0, 0, ' ' .. NOBODY, ''
end
-- Whether some sleep for long, and some wait for a run, as far as is known; then the key of those.
local mark = state and not foreign and string.byte(state, 2) or 63
local sleepers = mark == 42 or mark == 79 or mark == 63
local runners = (mark == 111 or mark == 79 or mark == 63) and key .. ':o'

local function text(moment)
    return moment == now_us and us or string.format('%.0f', moment)
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
    -- Before the SET also for this reason: a server that is out of memory refuses commands that may
    -- need some, except in a script that has begun to write. Who holds a lock must be able to keep
    -- it and to let go.
    local flag = '-'
    if redis.call('PEXPIRE', QUEUE, QUEUE_LIFE) == 1 then
        redis.call('PEXPIRE', WAITERS, QUEUE_LIFE)
        flag = sleepers and '*' or '+'
        if runners and redis.call('PEXPIRE', runners, QUEUE_LIFE) == 1 then
            flag = sleepers and 'O' or 'o'
        end
    end
    if grace > 0 then
        if mode == 'F' and fence == 0 then
            return -- nothing is known
        end
        flag = '?'
    end
    local record
    local last = fence == now_us and us or fence == read and written or string.format('%016.0f', fence)
    if mode == 'F' then
        record = 'F' .. flag .. previous .. ' ' .. last
    elseif mode == 'X' then
        record = 'X' .. flag .. ' ' .. holder .. ' ' .. last .. ' ' .. since .. ' ' .. text(start) .. ' ' .. lease
            .. previous .. ' ' .. identity
    else
        record = 'S' .. flag .. ' ' .. NOBODY .. ' ' .. last .. ' 0 ' .. us .. ' 0' .. previous .. ' '
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
    state = redis.call('GET', key)
end

-- The newest run that is complete; 0: none is known.
local function run_done()
    local run = tonumber(redis.call('GET', key .. ':d') or '')
    return run and run < 1e16 and run or 0
end

-- What a fencing token must reach, when its holder asks for that (acquire.lua).
local floor = 0

-- Lets one in: with the next fencing token, now; or with the one that it has had since it entered.
local function grant(token, wanted, who, ttl, own, entered)
    if not own then
        own = math.max(fence + 1, now_us, floor)
        if wanted == 'S' and string.find(who, '^%d') then
            -- Of a quorum: room for the number of a server, so that no two readers have the same (quorum/votes.rs).
            own = math.ceil(own / 16) * 16
        end
    end
    entered = entered or us
    if wanted == 'O' then
        local last = runners and redis.call('ZRANGE', runners, -1, -1, 'WITHSCORES')[2]
        own = math.max(own, tonumber(last or 0) + 1, run_done() + 1)
    end
    fence = math.max(fence, own)
    if wanted ~= 'S' then
        mode, holder, since, start, lease, identity = 'X', token, entered, now_us, ttl, who
    else
        if mode ~= 'S' then
            -- Readers whose lock was forgotten (its record alone was evicted) must not come back.
            redis.call('DEL', READERS, INFO)
        end
        mode = 'S'
        redis.call('ZADD', READERS, now + ttl, token)
        redis.call('HSET', INFO, token, text(own) .. ' ' .. entered .. ' ' .. who)
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

-- What this step may still do; whether it has changed who holds and who waits; whether it has left
-- work, so that somebody may be let in who was not; whether there are some left to be told that a run
-- covers them.
local work, moved, unfinished, left_over = WORK, false, false, false

-- What a waiter wants, its identity and its rank, if it lives.
local function living(token)
    local alive, wanted, place, who =
        string.match(redis.call('HGET', WAITERS, token) or '', '^(%d+) ([XSOxso]) (%d+) (.*)$')
    local left = alive and alive - now
    if left and string.byte(alive) ~= 48 then
        left = left + 1800 -- 0.1 asks every second
    end
    -- By another clock, which was set back since: whoever lives will be heard of again.
    if left and left >= 0 and left <= FAR + SLACK_MOST then
        return string.upper(wanted), who, place
    end
end

-- So many have gone from the head of the queue: calls up those who have come among the first NEAR.
local function call_up(gone)
    local first = math.max(0, NEAR - gone)
    local come = redis.call('ZRANGE', QUEUE, first, NEAR - 1)
    -- Else all that are left have been called up.
    sleepers = #come == NEAR - first
    for _, token in ipairs(come) do
        local alive, wanted, rest = string.match(redis.call('HGET', WAITERS, token) or '', '^(%d+) ([xso])( .*)$')
        if alive then
            local left = math.min(alive - now, BEAT + SLACK_MOST)
            redis.call('HSET', WAITERS, token, string.format('0%.0f %s%s', now + left, string.upper(wanted), rest))
            redis.call('RPUSH', MAIL .. token, '0 0')
            redis.call('PEXPIRE', MAIL .. token, BEAT + SLACK_MOST)
        end
    end
end

-- Takes a waiter out of the queue, if it is there.
local function forget(token)
    redis.call('DEL', MAIL .. token)
    redis.call('HDEL', WAITERS, token)
    if runners then
        redis.call('ZREM', runners, token)
    end
    local waited = redis.call('ZREM', QUEUE, token) == 1
    if waited and sleepers then
        call_up(1)
    end
    return waited
end

-- Takes the dead at the head of the queue out of it, `most` of them at most, and returns how many. They
-- were granted nothing by mail: who is, is not in the queue any more.
local function bury(most)
    local piece, gone = 4, 0
    while most > 0 do
        piece = math.min(piece, most)
        local heads, dead = redis.call('ZRANGE', QUEUE, 0, piece - 1), 0
        while heads[dead + 1] and not living(heads[dead + 1]) do
            dead = dead + 1
        end
        if dead > 0 then
            redis.call('HDEL', WAITERS, unpack(heads, 1, dead))
            redis.call('ZREM', QUEUE, unpack(heads, 1, dead))
            if runners then
                redis.call('ZREM', runners, unpack(heads, 1, dead))
            end
            work, most, gone, moved = work - dead, most - dead, gone + dead, true
        end
        if dead < piece then
            break
        end
        piece = piece * 8
    end
    return gone
end

-- Frees the lock of dead holders and lets in those whose turn it is: the head of the queue, and
-- behind a reader the readers that follow it. Whoever has not been heard of loses its turn. The
-- lock is granted to `me` (who is here to confirm) for `ttl`, to others by mail, for GRANT: until they
-- have confirmed. To let somebody in counts as LETTING_IN of the dead. Before that, those leave the
-- queue whom the newest run covers, the first of them, and are told: so many that what is left of the
-- work suffices to let somebody in.
-- Returns my fencing token if I was let in.
local function settle(me, ttl)
    local GRANT, LETTING_IN = 2200, 8
    if mode == 'X' and expiry() <= now then
        mode, moved = 'F', true
    elseif mode == 'S' then
        local over = redis.call('ZRANGEBYSCORE', READERS, '-inf', now, 'LIMIT', 0, math.max(0, work))
        if over[1] then
            redis.call('HDEL', INFO, unpack(over))
            redis.call('ZREM', READERS, unpack(over))
            work, moved = work - #over, true
        end
        -- The set itself may have been evicted.
        if redis.call('ZCARD', READERS) == 0 then
            mode, moved = 'F', true
        elseif work <= 0 then
            unfinished = true
        end
    end
    local mine, gone, run = nil, 0, runners and run_done() or 0
    if run > 0 and work > 0 then
        local most = math.max(1, work - LETTING_IN)
        local below = string.format('(%.0f', run)
        local covered = redis.call('ZRANGEBYSCORE', runners, '-inf', below, 'LIMIT', 0, most + 1)
        left_over = covered[most + 1] and true or false
        covered[most + 1] = nil
        if covered[1] then
            redis.call('HDEL', WAITERS, unpack(covered))
            redis.call('ZREM', QUEUE, unpack(covered))
            redis.call('ZREM', runners, unpack(covered))
            local letter = string.format('%.0f 0', run)
            for _, token in ipairs(covered) do
                redis.call('RPUSH', MAIL .. token, letter)
                redis.call('PEXPIRE', MAIL .. token, 10000)
            end
            work, gone, moved = work - #covered, #covered, true
        end
    end
    while grace == 0 and mode ~= 'X' and not unfinished do
        local head = redis.call('ZRANGE', QUEUE, 0, 0)[1]
        if not head then
            break
        end
        local wanted, who, place = living(head)
        if wanted == 'O' and tonumber(place) < run then
            unfinished = true -- it is one of those who are left
        elseif wanted and wanted ~= 'S' and mode == 'S' then
            break
        elseif work <= 0 then
            unfinished = true
        elseif not wanted then
            gone = gone + bury(work)
        else
            redis.call('HDEL', WAITERS, head)
            redis.call('ZREM', QUEUE, head)
            if wanted == 'O' and runners then
                redis.call('ZREM', runners, head)
            end
            work, gone, moved = work - LETTING_IN, gone + 1, true
            if head == me then
                mine = grant(head, wanted, who, ttl)
            else
                local token = grant(head, wanted, who, GRANT)
                redis.call('RPUSH', MAIL .. head, text(token) .. ' ' .. GRANT)
                redis.call('PEXPIRE', MAIL .. head, GRANT)
            end
        end
    end
    if gone > 0 and sleepers then
        call_up(gone)
    end
    return mine
end

-- What becomes of a token that is not known to hold the lock: 2 it was broken, 3 it is unknown here, 4 somebody else
-- has been let in since, 1 it released already (its first reply was lost). 0: its holder is believed that it has the
-- lock `held`, with the fencing token `own`. Who has a smaller one than another was let in before, and is over; only
-- readers hold together. A release and a break stand.
local function standing(token, held, own)
    if previous == ' ' .. token then
        return 1
    elseif previous == '!' .. token then
        return 2
    elseif grace > 0 and held then
        local beside = held == 'S' and mode ~= 'X' and previous ~= '!' .. READERS_ALL
        if own > fence or beside then
            return 0
        end
    end
    return previous == '!' .. READERS_ALL and 2 or state and 4 or 3
end
