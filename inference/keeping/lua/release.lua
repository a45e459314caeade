-- Frees a key. KEYS: its record. ARGV: the lease (fingerprint + owner). Nothing happens if it is somebody else's.

local lease = 'L' .. ARGV[1]
if redis.call('GETRANGE', KEYS[1], 0, #lease) == lease then redis.call('DEL', KEYS[1]) end
