-- Closes admitted requests of one shard: the one who drops a note keeps or gives back its unit and tells the meter.
--
-- KEYS: notes, usage stream, then for each request: month, parallel.
-- ARGV: "1" if what has no note any more is to be left alone (the reaper's way), then for each request six: id,
--       organization, API key, "1" to keep the month's unit or "0" to give it back, "1" if it holds a lease, and its
--       event, empty for none.
-- Returns how many notes there were.
--
-- A request without a note was settled already (by the reaper, or by this script before Redis lost the answer), or its
-- note was lost, or it never had one. Its event is still told, marked late; and since the month's counter may or may
-- not hold it, the counter goes: the next admission seeds it anew. So do both counters if note and settlement name
-- different months: the gateway never heard by whose clock it was admitted.

local closed = 0
for item = 0, (#ARGV - 1) / 6 - 1 do
  local id, organization, key = ARGV[item * 6 + 2], ARGV[item * 6 + 3], ARGV[item * 6 + 4]
  local keeps, leased, event = ARGV[item * 6 + 5] == '1', ARGV[item * 6 + 6] == '1', ARGV[item * 6 + 7]
  local month, parallel = KEYS[item * 2 + 3], KEYS[item * 2 + 4]

  local noted = redis.call('HGET', KEYS[1], id)
  local other_month = nil
  if noted then
    closed = closed + 1
    redis.call('HDEL', KEYS[1], id)
    local admitted_in = string.match(noted, '^[^\t]*\t[^\t]*\t[^\t]*\t[^\t]*\t(%d+)')
    if admitted_in ~= string.sub(month, -6) then other_month = string.sub(month, 1, -7) .. admitted_in end
  end
  if leased then redis.call('ZREM', parallel, id) end
  if other_month then
    redis.call('DEL', month, other_month)
  elseif noted and not keeps then
    if redis.call('HEXISTS', month, 'used') == 1 then
      redis.call('HINCRBY', month, 'used', -1)
      redis.call('HINCRBY', month, 'k:' .. key, -1)
    else -- for who is seeding at this moment, having counted the note: finish_seed.lua
      redis.call('HSET', month, 'returned:' .. id, key)
      redis.call('EXPIRE', month, 60, 'NX')
    end
  end
  if event ~= '' and (noted or ARGV[1] ~= '1') then
    if noted then
      redis.call('XADD', KEYS[2], '*', 'o', organization, 'e', event)
    else
      redis.call('XADD', KEYS[2], '*', 'o', organization, 'e', event, 'late', '1')
      redis.call('DEL', month)
    end
  end
end
return closed
