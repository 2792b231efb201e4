<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

/** The scripts and their SHA-1. Made by script/polyfill-scripts: not for editing. */
final class ScriptTexts
{
    private const COMMON = <<<'LUA'
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
-- changes nothing. Nor does one of a quorum that a newer attempt with this token has overtaken, or the
-- release. Who wants it for a run is told, in place of waiting, when a run is complete that covers it
-- (common.lua): never one whose holder was let in before this token had its rank.
--
-- KEYS      1 the lock   2 (where servers have a grace period) see common.lua
-- ARGV     1 token   2 mode X|S, or O: as X, for a run   3 lease in ms   4 Q queue when busy | G give up when busy
--          | Y of a quorum: queue at exactly the place given, also what this token holds here, so
--          that whoever came before gets it
--          5 place: arrival rank given by an earlier try, 0 at first
--          6 identity; of a quorum "ATTEMPT IDENTITY": the attempts with one token are numbered
--          7 how long to keep the record: lease + RETAIN of common.lua, in ms
--          8 slack in ms: how much later than it is told to be heard of again it may be; SLACK of
--          common.lua when it is not given
--          9 when it converts: the fencing token of what it holds
--          10 (of a quorum) the fencing token that is wanted, 16 digits, for a grant to this token;
--          taken when it is greater than what would be given, and not more than 1 s ahead
--          the last, with KEYS[2]: how long a grace period is, in ms
-- Returns  held: the fencing token (integer)
--          busy: {place, ms until the lease that blocks runs out, identity of one holder, in how
--          many ms to ask again, how many stand before it}, the last not when it is late; nobody, when
--          the grace period is all that blocks; -1 for the lease: the step has left work, ask again at
--          once (it is queued, with G, too)
--          covered by a run, and not queued any more: {its fencing token, 'run'}
local period = KEYS[2] and tonumber(table.remove(ARGV))
local me, wanted = ARGV[1], ARGV[2]

-- The fast path: free, and known to have no waiters. Three commands.
local state = redis.call('GET', KEYS[1])
if (wanted == 'X' or wanted == 'O' and ARGV[5] == '0') and state and string.sub(state, 1, 2) == 'F-' and #state >= 52
    and not (ARGV[10] and string.sub(state, 4, 35) == me) then
    local clock = redis.call('TIME')
    local us = clock[1] .. string.sub('00000' .. clock[2], -6)
    local last = string.sub(state, 37, 52)
    local token, keep = us, period and ARGV[7] + period or ARGV[7]
    if ARGV[10] and ARGV[10] > us and ARGV[10] - us <= 1000000 then
        token = ARGV[10]
    end
    if wanted == 'O' then
        -- The record of the last one who was let in for a run may have been evicted.
        local run = tonumber(redis.call('GET', KEYS[1] .. ':d') or '')
        if run and run < 1e16 and run > tonumber(last) then
            last = string.format('%016.0f', run)
        end
    end
    if last >= token then
        -- This server's clock was set back: the record must outlive the difference.
        token = string.format('%.0f', last + 1)
        keep = keep + math.floor((token - us) / 1000)
    end
    redis.call('SET', KEYS[1], 'X- ' .. me .. ' ' .. token .. ' ' .. us .. ' ' .. us .. ' ' .. ARGV[3]
        .. string.sub(state, 3, 35) .. ' ' .. ARGV[6], 'PX', keep)
    return tonumber(token)
end
local ttl = tonumber(ARGV[3])


LUA . self::COMMON . <<<'LUA'


if ARGV[10] and ARGV[10] - now_us <= 1000000 then
    floor = tonumber(ARGV[10])
end
local converts, yields = tonumber(ARGV[9] or 0), ARGV[4] == 'Y'
-- Of a quorum. What is held by the same attempt, or confirmed by it, is not given back: the question was put twice.
local number = ARGV[10] and function(who)
    return tonumber(string.match(who or '', '^(%d+) ') or 0)
end
local attempt = number and number(ARGV[6]) or 0
local late = attempt > 0 and {tonumber(ARGV[5]), BEAT, '', BEAT}
if attempt > 0 and previous == ' ' .. me then
    return late
elseif mode == 'X' and holder == me then
    local newest = attempt > 0 and number(identity) or 0
    if attempt < newest then
        return late
    elseif not yields or attempt > 0 and attempt == newest then
        redis.call('DEL', MAIL .. me)
        if wanted ~= 'S' then
            start, lease, identity = now_us, ttl, attempt > newest and ARGV[6] or identity
            save()
            return fence
        elseif fence > converts then
            -- It is late, from before a conversion.
            return {tonumber(ARGV[5]), math.max(0, expiry() - now), identity, BEAT}
        end
        local mine = grant(me, 'S', ARGV[6], ttl)
        settle()
        save()
        return mine
    end
    mode, moved = 'F', true
elseif mode == 'S' and redis.call('ZSCORE', READERS, me) then
    local record = redis.call('HGET', INFO, me)
    local own, entered, who = string.match(record or '', '^(%d+) (%d+) (.*)$')
    local newest = attempt > 0 and number(who) or 0
    if attempt < newest then
        return late
    elseif not yields or attempt > 0 and attempt == newest then
        redis.call('DEL', MAIL .. me)
        if wanted == 'S' and record then
            redis.call('ZADD', READERS, now + ttl, me)
            if attempt > newest then
                redis.call('HSET', INFO, me, own .. ' ' .. entered .. ' ' .. ARGV[6])
            end
            if redis.call('EXISTS', QUEUE) == 1 then
                settle() -- a step may have left work
            end
            save()
            return tonumber(own)
        elseif record and tonumber(own) > converts then
            local left = redis.call('ZSCORE', READERS, me) - now
            return {tonumber(ARGV[5]), math.max(0, left), who, BEAT} -- it is late, too
        end
    end
    -- To convert; to queue for it again; or its record was evicted, and with it its fencing token: it needs a new one.
    moved = drop_reader(me)
end

local queued = redis.call('ZSCORE', QUEUE, me)
local waits = queued and redis.call('HGET', WAITERS, me)
local alive, waits_for = string.match(waits or '', '^(%d+) (%a)')
if attempt > 0 and attempt < number(string.match(waits or '', '^%d+ %a %d+ (.*)$')) then
    return late
end
waits_for = waits_for and string.upper(waits_for)
local arrival = not yields and queued or ARGV[5]
local place = tonumber(arrival)
if not yields and waits and waits_for ~= wanted then
    return {place, BEAT, '', BEAT} -- late; a wait does not change its mode
end
if wanted == 'O' and place == 0 and grace > 0 and not moved then
    -- A record that is put back may have a fencing token that is greater than its rank.
    return {0, grace, '', BEAT}
end
local last, run = queued, wanted == 'O' and run_done() or 0
if place == 0 then
    last = redis.call('ZRANGE', QUEUE, -1, -1, 'WITHSCORES')[2]
    place = math.max(now_us, tonumber(last or 0) + 1, fence + 1, run + 1)
    arrival = text(place)
    runners = (state or last) and runners
elseif run > place then
    if forget(me) or moved then
        settle()
        save()
    end
    return {run, 'run'}
end
if wanted == 'O' and not runners then
    runners, moved = key .. ':o', true
end
-- It is heard of again, and nothing else has changed.
local again = alive and waits_for == wanted and tonumber(queued) == place
-- There is no queue. (Who has no right to make one is told so at the name's first lock.)
local first = state and not last and ARGV[5] == '0'
-- A server that is out of memory says so here: what follows it lets a script do that has begun to write.
if first then
    redis.call('SETRANGE', key, 0, '')
elseif not again then
    redis.call('ZADD', QUEUE, arrival, me)
    if wanted == 'O' then
        redis.call('ZADD', runners, arrival, me)
    end
end
local interval, rank
local done, mine = pcall(function()
    -- How much less often each is heard of than the one before it. SLACK: when the waiter does not say so. LONG: who
    -- sleeps for longer is called up when it comes among the first, because they are those who find a holder dead; less
    -- than GRANT. FEW: so many are buried by a step of one who stands far back, and finds the lock taken.
    local LESS_OFTEN, SLACK, LONG, FEW = 30, 800, 2000, 64
    if first then
        settle()
        if work > 0 and grace == 0 and (mode == 'F' or mode == 'S' and wanted == 'S') then
            local mine = grant(me, wanted, ARGV[6], ttl)
            save()
            return mine
        end
        redis.call('ZADD', QUEUE, arrival, me)
        if wanted == 'O' then
            redis.call('ZADD', runners, arrival, me)
        end
    end
    rank = redis.call('ZRANK', QUEUE, me)
    interval = math.max(BEAT, math.min(FAR, BEAT + (rank - NEAR) * LESS_OFTEN))
    local heard = now + interval + math.min(tonumber(ARGV[8] or SLACK), SLACK_MOST)
    local waiting = wanted
    if interval > LONG then
        waiting, moved, sleepers = string.lower(wanted), moved or not sleepers, true
    end
    redis.call('HSET', WAITERS, me, string.format('0%.0f', heard) .. ' ' .. waiting .. ' ' .. arrival .. ' ' .. ARGV[6])
    if not again then
        -- A grant that this waiter slept through has run out by now: it must not be believed later.
        redis.call('DEL', MAIL .. me)
    end
    local mine = settle(me, ttl)
    if not mine and (mode == 'X' or grace > 0) and rank >= NEAR then
        local gone = bury(math.min(work, FEW))
        if gone > 0 and sleepers then
            call_up(gone)
        end
    end
    if not mine and ARGV[4] == 'G' and not unfinished then
        forget(me)
        settle()
    elseif not moved and mode == 'X' and string.byte(state, 2) ~= 63 then
        if string.byte(state, 2) == 45 then
            redis.call('SETRANGE', key, 1, '+')
        end
        -- Else the record is what it was. Each waiter keeps the queue when a quarter of its life has passed.
        local quarter = QUEUE_LIFE / 4
        if not again or math.floor(alive / quarter) ~= math.floor(heard / quarter) then
            redis.call('PEXPIRE', QUEUE, QUEUE_LIFE)
            redis.call('PEXPIRE', WAITERS, QUEUE_LIFE)
            if runners then
                redis.call('PEXPIRE', runners, QUEUE_LIFE)
            end
        end
        return
    end
    save()
    return mine
end)
if not done then
    -- A command that this user may not give: what the others have made by now must not stay for ever.
    for _, made in ipairs({QUEUE, WAITERS, key .. ':o', READERS, INFO}) do
        redis.call('PEXPIRE', made, QUEUE_LIFE)
    end
    error(mine, 0)
end
if mine then
    return mine
elseif unfinished then
    return {place, -1, '', interval}
elseif mode == 'X' then
    return {place, math.max(expiry() - now, grace), identity, interval, rank}
end
local reader = mode == 'S' and redis.call('ZRANGE', READERS, 0, 0, 'WITHSCORES') or {}
local record = reader[1] and redis.call('HGET', INFO, reader[1]) or ''
return {place, math.max(0, (reader[2] or now) - now, grace), string.match(record, '^%d+ %d+ (.*)$') or '', interval, rank}

LUA, 'c3d83a9a2a825bdb1f5502d40967758e737e4b8b'],
'release' => [<<<'LUA'
--!df flags=allow-undeclared-keys
-- Gives a lock back and hands it to whoever is next; or takes a waiter out of the queue. Or says that the run of
-- its holder is complete: then those whom it covers (common.lua) are told, and leave the queue.
--
-- Guarantees: only the holder's own token frees the lock; exactly one waiter is woken when it is
-- exclusive, all leading readers when they are; repeating a release is not an error; a waiter
-- that was handed the lock and does not want it any more passes it on. Works on a server that is
-- out of memory, too. A run counts only when its holder still has the lock, by the same fencing token.
--
-- KEYS      1 the lock   2 (where servers have a grace period) see common.lua
-- ARGV     1 token   of a run that is complete: 2 O   3 the fencing token that its holder was given
--          with KEYS[2], of a holder whose lease is not over by its own clock: 2 mode X|S|O   3 fencing
--          token   and the last: how long a grace period is, in ms
-- Returns  1 it was ours and is free now   2 it had been broken   3 unknown here: data lost
--          4 somebody else has been let in since   6 it waited, and does so no more
--          of a run: 1 it counts   5 it does not, but a later one is complete   else it does not
--          and 10 more: this step has left work, so that somebody may wait who is next: to be sent
--          again, with whatever token, until it says so no more
local period = KEYS[2] and tonumber(table.remove(ARGV))
local me, said, run = ARGV[1], 1, ARGV[2] == 'O' and tonumber(ARGV[3])

-- The fast path: held by me, nobody waits. Two commands, for a run four; what remains of the record's life is
-- enough, and its holder becomes the last one that released.
local state = redis.call('GET', KEYS[1])
if state and string.sub(state, 1, 3 + #me) == 'X- ' .. me
    and (not run or run == tonumber(string.sub(state, 37, 52))) then
    if run then
        redis.call('PEXPIRE', KEYS[1] .. ':d', 60000) -- see save() of common.lua on memory
        redis.call('SET', KEYS[1] .. ':d', string.format('%016.0f', run), 'PX', 60000)
    end
    local done = redis.pcall('SETRANGE', KEYS[1], 0, 'F')
    if type(done) == 'table' then
        -- OOM: a full server must still let go. The next fencing token comes from its clock.
        redis.call('DEL', KEYS[1])
    end
    return 1
end


LUA . self::COMMON . <<<'LUA'


local unknown = false
if mode == 'X' and holder == me then
    mode, previous = 'F', ' ' .. me
    if run == fence then
        redis.call('PEXPIRE', key .. ':d', 60000)
        redis.call('SET', key .. ':d', string.format('%016.0f', run), 'PX', 60000)
    end
elseif mode == 'S' and drop_reader(me) then
    previous = ' ' .. me
else
    local why = standing(me, ARGV[2], tonumber(ARGV[3]))
    local waited = forget(me)
    if why == 0 then
        if mode == 'X' or ARGV[2] ~= 'S' then
            mode = 'F'
        end
        fence, previous = math.max(fence, tonumber(ARGV[3])), ' ' .. me
        -- Of a run those who came since may not know; its holder does.
        run = false
    elseif waited then
        said = 6
    else
        said, unknown = why, true
    end
end
if not unknown or (mode ~= 'X' or runners) and redis.call('EXISTS', QUEUE) == 1 then
    settle() -- also where it is unknown: a step may have left work
end
if not unknown or moved then
    save()
end
if run then
    local newest = run_done()
    if newest >= run then
        said = newest == run and 1 or 5
    elseif said == 1 or said == 6 then
        -- That it was released, or waits no more, says nothing of the run.
        said = 4
    end
end
return said + ((unfinished or left_over) and LEFT or 0)

LUA, 'a1fc5549e32ccaf4396c69311380cb139eeef62b'],
'renew' => [<<<'LUA'
--!df flags=allow-undeclared-keys
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


LUA . self::COMMON . <<<'LUA'


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

LUA, '2f7e21f7ff2b4d2a9f4be35569278148980ed7ff'],
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
-- In a grace period whoever may hold it, of whom nothing is known, is broken with the others: without a token for good,
-- and the lock is free; with one who was given no greater one.
--
-- KEYS      1 the lock   2 (where servers have a grace period) see common.lua
-- ARGV     1 (optional) the fencing token of the holder who is meant   and with KEYS[2] the last: how long a
--          grace period is, in ms
-- Returns  1 somebody held it, or something was in the way   0 nobody did
--          2 another one than meant holds it: nothing was done
--          3 as 2, 4 as 0, and who held it before was broken: by an earlier try, if its reply was lost
--          and 10 more: this step has left work, with which a release with whatever token goes on
local period = KEYS[2] and tonumber(table.remove(ARGV))
local meant, held = tonumber(ARGV[1]), false
for _, probe in ipairs({{'', 'GET'}, {':q', 'ZCARD'}, {':r', 'ZCARD'}, {':w', 'HGET', ''}, {':i', 'HGET', ''}, {':o', 'ZCARD'},
    {':d', 'GET'}}) do
    local found = not meant and redis.pcall(probe[2], KEYS[1] .. probe[1], unpack(probe, 3))
    if type(found) == 'table' and string.find(found.err or '', 'WRONGTYPE', 1, true) then
        redis.call('DEL', KEYS[1] .. probe[1])
        held = true
    end
end

local state = redis.call('GET', KEYS[1])


LUA . self::COMMON . <<<'LUA'


held = held or foreign
local writes = mode == 'X' and expiry() > now
local reads = mode == 'S' and redis.call('ZRANGEBYSCORE', READERS, '(' .. now, '+inf', 'LIMIT', 0, 1)[1]
local repeated = meant and string.byte(previous) == 33
-- No more than one that may have been given out: a record with a greater one would be in the way for ever.
local silent = grace > 0 and (not meant or fence < meant and meant <= now_us + 1000000)
if meant and fence ~= meant and (writes or reads) and not silent then
    return repeated and 3 or 2
elseif writes then
    held, mode, previous = true, 'F', '!' .. holder
elseif reads then
    held, mode, previous = true, 'F', '!' .. READERS_ALL
    redis.call('DEL', READERS, INFO)
end
if silent then
    held, mode, fence = true, 'F', math.max(fence, meant or 0)
    previous = writes and not meant and previous or '!' .. READERS_ALL
    grace = meant and grace or 0
end
settle()
if state or silent or mode ~= 'F' then
    save()
end
return (held and 1 or repeated and 4 or 0) + ((unfinished or left_over) and LEFT or 0)

LUA, 'dd3678e71e237d374f3cab6b8cf74ed8ad4e8b2a'],
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
