-- Drops answers whose caller has written them down, and leaves a mark for a while. Begins with room.lua.
--
-- KEYS: as room.lua has them, 4 and on the records. ARGV: 1 life of a mark in ms, then the name of each record.
-- Returns how many there were. A lease is marked too: its owner, about to store the answer, finds that nobody wants it.
-- Marks aren't in the books: they are small, and gone before they are many.

local taken = 0
for i = 4, #KEYS do
  local head = redis.call('GETRANGE', KEYS[i], 0, HEAD - 1)
  if head ~= '' then
    forget(ARGV[i - 2])
    redis.call('SET', KEYS[i], 'M' .. string.sub(head, 2) .. 'dropped', 'PX', ARGV[1])
    taken = taken + 1
  end
end
return taken
