-- Begins the seeding of a month's counter. KEYS: month.
-- ARGV: a token, "1" to keep out those as well who would go on without a counter.
-- Returns the token that finishing has to bring, shared by all who seed at once; empty if there is nothing to seed.
-- Whatever would make what they read wrong drops it: see settle.lua and admit.lua.

if redis.call('HEXISTS', KEYS[1], 'used') == 1 then return '' end
redis.call('HSETNX', KEYS[1], 'seeding', ARGV[1])
redis.call('EXPIRE', KEYS[1], 60)
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], 'exclusive', '1')
  redis.call('EXPIRE', KEYS[1], 5) -- should whoever began it die
end
return redis.call('HGET', KEYS[1], 'seeding')
