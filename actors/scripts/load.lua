#!lua flags=no-writes
-- The hashes of runs. KEYS[1] head; ARGV[1] msgpack list of keys.
local base = string.sub(KEYS[1], 1, -5) .. 'run:'
local keys = cmsgpack.unpack(ARGV[1])
local found = {}
for i = 1, #keys do found[i] = redis.call('HGETALL', base .. keys[i]) end
return found
