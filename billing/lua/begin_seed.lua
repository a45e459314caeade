-- Begins the seeding of a month's counter. KEYS: month. ARGV: a token.
-- Returns the token that finishing has to bring, shared by all who seed at once; empty if there is nothing to seed.
-- Whatever would make what they read wrong drops it: see settle.lua and admit.lua.

if redis.call('HEXISTS', KEYS[1], 'used') == 1 then return '' end
redis.call('HSETNX', KEYS[1], 'seeding', ARGV[1])
redis.call('EXPIRE', KEYS[1], 60)
return redis.call('HGET', KEYS[1], 'seeding')
