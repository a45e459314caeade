-- Admission of one request: is the snapshot current, and is there room in every dimension? (docs/limits.md)
--
-- KEYS: generation, window (the minute), month, notes, parallel.
-- ARGV: 1 the snapshot's generation, 2 "1" if it was read just now, 3 clock offset in seconds (tests),
--       4 "inference" or "other", 5 the month's first second, 6 the next month's, 7 "1" to go on without a seeded month,
--       8 API key, 9-15 limits or -1: minute, key's minute, month, key's month, parallel, budget, key's budget,
--       16 note, 17 life of a note in seconds, 18 request id (of inference alone).
-- Returns {outcome, now, used in the minute, by the key, used in the month, by the key}. Outcomes: billing/admission/limits.py.
--
-- All dimensions are checked before any is counted; a refused or stale request changes nothing. A request that has its
-- note already is admitted again without counting. The clock is this server's, so all processes share it.

local generation = tonumber(redis.call('GET', KEYS[1]))
local known = tonumber(ARGV[1])
local now = tonumber(redis.call('TIME')[1]) + tonumber(ARGV[3])
if generation ~= known then
  if generation and generation > known then return {1, now, 0, 0, 0, 0} end
  if not generation and ARGV[2] ~= '1' then return {1, now, 0, 0, 0, 0} end
  redis.call('SET', KEYS[1], known)
end
if now < tonumber(ARGV[5]) or now >= tonumber(ARGV[6]) then return {2, now, 0, 0, 0, 0} end

local key = ARGV[8]
local month = redis.call('HMGET', KEYS[3], 'used', 'k:' .. key, 'spent', 's:' .. key)
if not month[1] and (ARGV[7] ~= '1' or redis.call('HEXISTS', KEYS[3], 'exclusive') == 1) then
  return {3, now, 0, 0, 0, 0}
end

local minute = math.floor(now / 60)
local window = redis.call('HMGET', KEYS[2], 'minute', 'inference', 'other', 'k:' .. key)
local counting = tonumber(window[1]) or 0
-- A new minute. A clock that steps back a little stays in the one it counts; one that was far ahead is forgotten.
local fresh = counting < minute or counting > minute + 2
if fresh then
  counting = minute
  window = {minute, false, false, false}
end

local used, key_used = tonumber(window[2]) or 0, tonumber(window[4]) or 0
local month_used, key_month_used = tonumber(month[1]) or 0, tonumber(month[2]) or 0
local function verdict(outcome) return {outcome, now, used, key_used, month_used, key_month_used} end
local function full(count, limit) return limit >= 0 and count >= limit end

local function begin_window()
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'minute', counting)
  redis.call('EXPIRE', KEYS[2], 180)
end

if ARGV[4] == 'other' then
  local others = tonumber(window[3]) or 0
  if full(others, tonumber(ARGV[9])) then return verdict(4) end
  if fresh then begin_window() end
  redis.call('HSET', KEYS[2], 'other', others + 1)
  return verdict(0)
end

local id = ARGV[18]
if redis.call('HEXISTS', KEYS[4], id) == 1 then return verdict(0) end

if full(month_used, tonumber(ARGV[11])) then return verdict(7) end
if full(key_month_used, tonumber(ARGV[12])) then return verdict(8) end
if full(tonumber(month[3]) or 0, tonumber(ARGV[14])) then return verdict(9) end
if full(tonumber(month[4]) or 0, tonumber(ARGV[15])) then return verdict(10) end
if full(used, tonumber(ARGV[9])) then return verdict(4) end
if full(key_used, tonumber(ARGV[10])) then return verdict(5) end
local parallel = tonumber(ARGV[13])
if parallel >= 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now)
  if full(redis.call('ZCARD', KEYS[5]), parallel) then return verdict(6) end
  redis.call('ZADD', KEYS[5], now + tonumber(ARGV[17]), id)
  redis.call('EXPIRE', KEYS[5], ARGV[17])
end

used, key_used = used + 1, key_used + 1
if fresh then begin_window() end
redis.call('HSET', KEYS[2], 'inference', used, 'k:' .. key, key_used)
if month[1] then
  month_used, key_month_used = month_used + 1, key_month_used + 1
  redis.call('HSET', KEYS[3], 'used', month_used, 'k:' .. key, key_month_used)
else
  redis.call('HDEL', KEYS[3], 'seeding') -- whoever is seeding has not seen this note
end
redis.call('HSET', KEYS[4], id, ARGV[16] .. now)
return verdict(0)
