#!lua flags=no-writes
-- Has the store what an owner was told? KEYS[1] head; ARGV[1] owner, [2] sequence of its last commit ('' while one is
-- under way), [3] run id of the server that it acquired the partition from. Answers APPLIED, FENCED or ROLLED_BACK.
-- include: run_id.lua
local stored = redis.call('HMGET', KEYS[1], 'owner', 'sequence')
if stored[1] ~= ARGV[1] then return 'FENCED' end
if run_id() ~= ARGV[3] or (ARGV[2] ~= '' and (stored[2] or '0') ~= ARGV[2]) then return 'ROLLED_BACK' end
return 'APPLIED'
