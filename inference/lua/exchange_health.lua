-- Tells what changed in one process's view of deployments, and answers what changed in those of the others since.
-- KEYS: changes, numbers. ARGV: the version seen last, the process, its numbers (empty: not now), and for each change
-- the deployment, its state, for how many ms, the level, the reason. Answers the version, and for each change since the
-- one seen the same five. Times are Redis's: clocks of processes need not agree.
--
-- A value of changes is "version since until state level reason". Versions only grow, also over a flush.

local KEEP_MS = 3600000
local LIFE_MS = 5000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')

if #ARGV > 3 then
  local known = redis.call('HGETALL', KEYS[1])
  for i = 1, #known, 2 do
    local ends = string.match(known[i + 1], '^%d+ %d+ (%d+) ')
    if ends and tonumber(ends) < now - KEEP_MS then redis.call('HDEL', KEYS[1], known[i]) end
  end
  for i = 4, #ARGV, 5 do
    version = math.max(version + 1, now)
    local value = string.format('%.0f %.0f %.0f %s %s %s', version, now, now + ARGV[i + 2], ARGV[i + 1], ARGV[i + 3], ARGV[i + 4])
    redis.call('HSET', KEYS[1], ARGV[i], value)
  end
  redis.call('HSET', KEYS[1], 'version', string.format('%.0f', version))
end

if ARGV[3] ~= '' then
  local known = redis.call('HGETALL', KEYS[2])
  for i = 1, #known, 2 do
    if tonumber(string.match(known[i + 1], '^%d+')) < now - LIFE_MS then redis.call('HDEL', KEYS[2], known[i]) end
  end
  redis.call('HSET', KEYS[2], ARGV[2], string.format('%.0f %s', now, ARGV[3]))
  redis.call('PEXPIRE', KEYS[2], LIFE_MS)
end

local answer = {string.format('%.0f', version)}
if version > tonumber(ARGV[1]) then
  local known = redis.call('HGETALL', KEYS[1])
  for i = 1, #known, 2 do
    local changed, ends, state, level, reason = string.match(known[i + 1], '^(%d+) %d+ (%d+) (%S+) (%d+) (.*)$')
    if changed and tonumber(changed) > tonumber(ARGV[1]) then
      local change = {known[i], state, string.format('%.0f', ends - now), level, reason}
      for _, each in ipairs(change) do table.insert(answer, each) end
    end
  end
end
return answer
