-- Sets a month's counter from what was read since begin_seed.lua. KEYS: month.
-- ARGV: 1 the token, 2 when the counter expires (epoch seconds), 3 used, 4 spent, 5 number of keys,
--       for each key: its id, used, spent; then the ids of requests that were counted because of their notes.
-- Returns 1 if the counter is there, 0 if what was read may be wrong by now.

if redis.call('HEXISTS', KEYS[1], 'used') == 1 then return 1 end
if redis.call('HGET', KEYS[1], 'seeding') ~= ARGV[1] then return 0 end

local used, keys = tonumber(ARGV[3]), {}
local ends = 5 + tonumber(ARGV[5]) * 3
for i = 6, ends, 3 do keys[ARGV[i]] = {tonumber(ARGV[i + 1]), ARGV[i + 2]} end
for i = ends + 1, #ARGV do
  local key = redis.call('HGET', KEYS[1], 'returned:' .. ARGV[i]) -- its unit was given back meanwhile
  if key then
    used = used - 1
    if keys[key] then keys[key][1] = keys[key][1] - 1 end
  end
end

local function most(name, read) -- a meter may have told of more since the ledger was read
  local told = redis.call('HGET', KEYS[1], name)
  return told and tonumber(told) > tonumber(read) and told or read
end
local fields = {used = used, spent = most('spent', ARGV[4])}
for key, numbers in pairs(keys) do
  fields['k:' .. key], fields['s:' .. key] = numbers[1], most('s:' .. key, numbers[2])
end
redis.call('DEL', KEYS[1])
for name, value in pairs(fields) do redis.call('HSET', KEYS[1], name, value) end
redis.call('EXPIREAT', KEYS[1], ARGV[2])
return 1
