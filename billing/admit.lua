-- Admission of one request: is the snapshot current, and is there room in the organization's minute?
-- KEYS: generation, window.  ARGV: the snapshot's generation, 1 if it was read just now, the limit of the minute,
--       the field to count ("inference" or "other"), clock offset in seconds (tests).
-- Returns {verdict, now, used inference requests of this minute}; verdict 0 admitted, 1 stale, 2 limited.
-- A refused or stale request changes nothing. The clock is this server's, so all processes share it.

local generation = tonumber(redis.call('GET', KEYS[1]))
local known = tonumber(ARGV[1])
local now = tonumber(redis.call('TIME')[1]) + tonumber(ARGV[5])
if generation ~= known then
  if generation and generation > known then return {1, now, 0} end
  if not generation and ARGV[2] ~= '1' then return {1, now, 0} end
  redis.call('SET', KEYS[1], known)
end

local minute = math.floor(now / 60)
local window = redis.call('HMGET', KEYS[2], 'minute', 'inference', 'other')
local counting = tonumber(window[1]) or 0
if counting < minute then -- a new minute; a clock that steps back stays in the one it counts
  counting = minute
  window = {minute, '0', '0'}
end
local used = {inference = tonumber(window[2]) or 0, other = tonumber(window[3]) or 0}
if used[ARGV[4]] >= tonumber(ARGV[3]) then return {2, now, used.inference} end
used[ARGV[4]] = used[ARGV[4]] + 1
redis.call('HSET', KEYS[2], 'minute', counting, 'inference', used.inference, 'other', used.other)
redis.call('EXPIRE', KEYS[2], 180)
return {0, now, used.inference}
