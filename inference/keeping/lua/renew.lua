-- Prolongs leases of one shard. KEYS: their records. ARGV: life in ms, then for each its lease (fingerprint + owner).
-- Returns how many are somebody else's by now. One that Redis itself has lost is set anew.

local lost = 0
for i, key in ipairs(KEYS) do
  local lease = 'L' .. ARGV[i + 1]
  local record = redis.call('GETRANGE', key, 0, #lease)
  if record == lease then
    redis.call('PEXPIRE', key, ARGV[1])
  elseif record == '' then
    redis.call('SET', key, lease, 'PX', ARGV[1])
  elseif string.sub(record, 1, 1) == 'L' then
    lost = lost + 1
  end
end
return lost
