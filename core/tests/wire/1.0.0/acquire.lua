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

--#include common.lua

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
