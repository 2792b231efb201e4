-- First in every script on a Redis Cluster. While a hash slot is moved from one server to another, the
-- keys of one lock are partly here and partly there, and a command on a key that is not here fails in
-- the middle of a script. This key is never anywhere: if asking for it fails, nothing has been done yet,
-- and nobody gets at the lock before it has arrived as a whole.
if type(redis.pcall('EXISTS', KEYS[1] .. ':m:')) == 'table' then
    return redis.error_reply('TRYAGAIN the hash slot of this lock is being moved')
end
