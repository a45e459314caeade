-- How many requests of batches may be sent in this minute. KEYS: the organization's counter (a hash of one minute).
--
-- ARGV: 1 clock offset in seconds (tests), 2 how many are wanted, 3 how many the organization's batches may have a
--       minute, 4 API key, 5 how many of them may be this key's, or -1.
-- Returns {granted, seconds until the next minute}, and counts what it grants. The clock is this server's.

local now = tonumber(redis.call('TIME')[1]) + tonumber(ARGV[1])
local minute = math.floor(now / 60)
local found = redis.call('HMGET', KEYS[1], 'minute', 'all', ARGV[4])
if tonumber(found[1]) ~= minute then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'minute', minute)
  redis.call('EXPIRE', KEYS[1], 180)
  found = {minute, 0, 0}
end
local all, own = tonumber(found[2]) or 0, tonumber(found[3]) or 0
local granted = math.min(tonumber(ARGV[2]), tonumber(ARGV[3]) - all)
if tonumber(ARGV[5]) >= 0 then granted = math.min(granted, tonumber(ARGV[5]) - own) end
granted = math.max(granted, 0)
redis.call('HSET', KEYS[1], 'all', all + granted, ARGV[4], own + granted)
return {granted, 60 - now % 60}
