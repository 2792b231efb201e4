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
