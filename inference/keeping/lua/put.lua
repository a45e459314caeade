-- Puts an answer into the response cache, in place of an older one. Begins with room.lua.
--
-- KEYS: as room.lua has them, 4 the entry. ARGV: 1 its name, 2 the room in bytes, 3 life in ms, 4 the sealed answer.
-- Returns 1, or 0 where there is no room: nothing but cached answers gives way.

forget(ARGV[1])
redis.call('DEL', KEYS[4])
if not make_room(ARGV[4], tonumber(ARGV[2]), CACHED) then return 0 end
keep(ARGV[1], CACHED, ARGV[4], tonumber(ARGV[3]))
return 1
