-- What an organization has kept, and room for more. Begins the scripts that store; they declare its keys:
--
-- KEYS: 1 sizes (hash: name → bytes, and `total`), 2 due (sorted set: name by when it expires, in seconds),
--       3 turn (sorted set: name by when it has to go). What is kept under a name is at KEYS[1] .. ':' .. name.
--
-- What goes first: cached answers, then answers under a key, then the marks that those leave behind; the oldest of each.
-- A mark keeps the fingerprint and the expiry of what it marks: a retry is told, not billed again.

local CACHED, ANSWER, MARK = 0, 1, 2
local RANK = 2e15 -- more than any time in microseconds; twice this and a time are still whole in a double
local HEAD = 17 -- of what is kept under a key: its state and its fingerprint
local OVERHEAD = 600 -- bytes that Redis needs for one name, here and there
local BOOKS_LIFE_S = 90000 -- longer than anything is kept
local PRESSED = 0.75 -- of the memory that Redis may use: the rest is for what else it holds, the ledger first of all
local SWEPT = 100 -- a call; each adds one

local clock = redis.call('TIME')
local now_s = tonumber(clock[1])
local now_us = now_s * 1e6 + tonumber(clock[2])

local function forget(name)
  local size = redis.call('HGET', KEYS[1], name)
  if not size then return end
  redis.call('HDEL', KEYS[1], name)
  redis.call('HINCRBY', KEYS[1], 'total', -tonumber(size))
  redis.call('ZREM', KEYS[2], name)
  redis.call('ZREM', KEYS[3], name)
end

local function keep(name, rank, value, life_ms)
  forget(name)
  local size = #value + OVERHEAD
  redis.call('SET', KEYS[1] .. ':' .. name, value, 'PX', life_ms)
  redis.call('HSET', KEYS[1], name, size)
  redis.call('HINCRBY', KEYS[1], 'total', size)
  redis.call('ZADD', KEYS[2], now_s + math.ceil(life_ms / 1000), name)
  redis.call('ZADD', KEYS[3], rank * RANK + now_us, name)
  for book = 1, 3 do redis.call('EXPIRE', KEYS[book], BOOKS_LIFE_S) end
end

local function drop(name, rank)
  local key = KEYS[1] .. ':' .. name
  local life_ms = rank == ANSWER and redis.call('PTTL', key) or 0
  if life_ms > 0 then
    keep(name, MARK, 'M' .. redis.call('GETRANGE', key, 1, HEAD - 1) .. 'dropped', life_ms)
  else
    redis.call('DEL', key)
    forget(name)
  end
end

-- Whether memory runs out, of all organizations together. A server that does not say so is taken to have enough.
local function pressed()
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return false end
  local most = tonumber(string.match(info, 'maxmemory:(%d+)')) or 0
  if most == 0 then most = tonumber(string.match(info, 'total_system_memory:(%d+)')) or 0 end
  local used = tonumber(string.match(info, 'used_memory:(%d+)')) or 0
  return most > 0 and used > most * PRESSED
end

-- Whether `value` fits below `limit`, once what ranks no higher than `highest` has gone as far as it must. While memory
-- runs out nobody's answers take more than they did; marks are small, and stay.
local function make_room(value, limit, highest, is_mark)
  for _, name in ipairs(redis.call('ZRANGE', KEYS[2], '-inf', now_s, 'BYSCORE', 'LIMIT', 0, SWEPT)) do
    redis.call('DEL', KEYS[1] .. ':' .. name)
    forget(name)
  end
  if not is_mark and pressed() then
    limit, highest = math.min(limit, tonumber(redis.call('HGET', KEYS[1], 'total')) or 0), math.min(highest, ANSWER)
  end
  if #value + OVERHEAD > limit then return false end
  while (tonumber(redis.call('HGET', KEYS[1], 'total')) or 0) + #value + OVERHEAD > limit do
    local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
    local rank = first[1] and math.floor(tonumber(first[2]) / RANK)
    if not rank or rank > highest then return false end
    drop(first[1], rank)
  end
  return true
end
