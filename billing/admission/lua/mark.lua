-- Adds what became known of requests to their notes, where they still have one, in place of what was known before.
-- KEYS: notes. ARGV: for each request its id and the mark.

for i = 1, #ARGV, 2 do
  local note = redis.call('HGET', KEYS[1], ARGV[i])
  if note then redis.call('HSET', KEYS[1], ARGV[i], string.match(note, '^[^\n]*') .. '\n' .. ARGV[i + 1]) end
end
