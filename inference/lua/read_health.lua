-- KEYS: changes, numbers, as exchange_health.lua leaves them. Answers Redis's time in milliseconds, and both hashes.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return {string.format('%.0f', now), redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
