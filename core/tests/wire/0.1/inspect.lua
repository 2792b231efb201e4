-- Who holds, who waits. Changes nothing.
--
-- KEYS[1]  the lock
-- Returns  {now in ms, state or '', readers with expiries, readers' records, queue, waiters'
--          records}, each as common.lua lays it out
local clock = redis.call('TIME')
local key = KEYS[1]
return {
    clock[1] * 1000 + math.floor(clock[2] / 1000),
    redis.call('GET', key) or '',
    redis.call('ZRANGE', key .. ':r', 0, -1, 'WITHSCORES'),
    redis.call('HGETALL', key .. ':i'),
    redis.call('ZRANGE', key .. ':q', 0, -1),
    redis.call('HGETALL', key .. ':w'),
}
