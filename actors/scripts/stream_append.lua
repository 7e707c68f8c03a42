#!lua
-- One value of an attempt into a stream of a run, on behalf of the partition's owner.
-- KEYS[1] head; ARGV[1] owner, [2] run, [3] its number, [4] stream, [5] place, [6] node, [7] incarnation of the process,
-- [8] token of the attempt, [9] number of the value, [10] JSON.
-- Answers APPENDED, FENCED (another owner), STALE (another process or run) or ENDED (the run has).
-- include: settled.lua
-- include: streams.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local stored = redis.call('HMGET', KEYS[1], 'owner', 'torn')
if stored[1] ~= ARGV[1] or stored[2] then return 'FENCED' end
return stream_append(base, ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10])
