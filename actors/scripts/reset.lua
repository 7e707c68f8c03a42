#!lua flags=allow-oom
-- A person sets positions anew, in three steps, for a workflow that nobody runs. KEYS[1] head; ARGV[1] step, [2] token.
-- begin: [3] term, [4] reason. Whoever owned the partition is shut out, and nobody can acquire it until the end: the
--   torn mark says why. It may be begun anew, where it was broken off. Answers BEGUN, or {REFUSED, reason}.
-- drop: [3...] names of keys that go. Answers DROPPED or FENCED.
-- finish: [3...] origin, position ... Answers FINISHED or FENCED.
-- include: settled.lua
local head, step, token = KEYS[1], ARGV[1], ARGV[2]
local base = string.sub(head, 1, -5)
if moving(base) then return redis.error_reply(MOVING) end

if step == 'begin' then
  local stored = redis.call('HMGET', head, 'torn', 'torn_reason', 'term')
  if stored[1] and stored[1] ~= 'reset' then return {'REFUSED', 'torn: ' .. (stored[2] or '')} end
  if tonumber(stored[3] or '0') >= tonumber(ARGV[3]) then return {'REFUSED', 'somebody else has just acquired it'} end
  redis.call('HSET', head, 'owner', token, 'term', ARGV[3], 'placement', '0', 'worker', 'reset', 'torn', 'reset',
    'torn_reason', ARGV[4])
  return {'BEGUN'}
end

local stored = redis.call('HMGET', head, 'owner', 'torn')
if stored[1] ~= token or stored[2] ~= 'reset' then return {'FENCED'} end
if step == 'drop' then
  for i = 3, #ARGV do redis.call('UNLINK', base .. ARGV[i]) end
  return {'DROPPED'}
end
for i = 3, #ARGV, 2 do redis.call('HSET', base .. 'positions', ARGV[i], ARGV[i + 1]) end
redis.call('HDEL', head, 'torn', 'torn_reason')
return {'FINISHED'}
