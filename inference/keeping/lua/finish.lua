-- Keeps an answer, or the mark that there is none or no room for it, in place of a lease. Begins with room.lua.
--
-- KEYS: as room.lua has them, 4 the record. ARGV: 1 its name, 2 the room in bytes, 3 the lease (fingerprint + owner),
--       4 life in ms, 5 `A` and the answer, or `M` and why; the fingerprint goes between.
-- Returns 1, or 0 if somebody else is at it by now. What is not this lease stays, but one that has expired is no obstacle.

local lease = 'L' .. ARGV[3]
local record = redis.call('GETRANGE', KEYS[4], 0, #lease)
if record ~= '' and record ~= lease then return string.sub(record, 1, 1) == 'L' and 0 or 1 end
local state, fingerprint = string.sub(ARGV[5], 1, 1), string.sub(ARGV[3], 1, HEAD - 1)
local value = state .. fingerprint .. string.sub(ARGV[5], 2)
if not make_room(value, tonumber(ARGV[2]), MARK, state == 'M') and state == 'A' then
  state, value = 'M', 'M' .. fingerprint .. 'dropped'
  make_room(value, tonumber(ARGV[2]), MARK, true)
end
keep(ARGV[1], state == 'A' and ANSWER or MARK, value, tonumber(ARGV[4]))
return 1
