-- Whose is an Idempotency-Key? KEYS: its record. ARGV: fingerprint (16 bytes), owner, life of a lease in ms.
--
-- A record is `L` + fingerprint + owner (under way), `A` + fingerprint + the sealed answer, or `M` + fingerprint + why
-- the answer is not there. Returns {outcome, rest}: 0 it is this owner's now (also when asked twice), 1 under way
-- elsewhere, 2 the answer, 3 there is none any more, 4 it belongs to another body. Only 0 changes anything.

local record = redis.call('GET', KEYS[1])
if not record then
  redis.call('SET', KEYS[1], 'L' .. ARGV[1] .. ARGV[2], 'PX', ARGV[3])
  return {0, ''}
end
if string.sub(record, 2, 17) ~= ARGV[1] then return {4, ''} end
local state, rest = string.sub(record, 1, 1), string.sub(record, 18)
if state == 'A' then return {2, rest} end
if state == 'M' then return {3, rest} end
if rest ~= ARGV[2] then return {1, ''} end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {0, ''}
