#!lua flags=allow-oom
-- The first start of a workflow names its life, and the format of its keys. KEYS[1] incarnation; ARGV[1] candidate,
-- [2] format document. A life that has no format was begun before there were any. Answers {incarnation, format or nil}.
-- include: settled.lua
local base = string.sub(KEYS[1], 1, -12)
if moving(base) then return redis.error_reply(MOVING) end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('SET', base .. 'format', ARGV[2], 'NX')
  redis.call('SET', KEYS[1], ARGV[1])
end
return {redis.call('GET', KEYS[1]), redis.call('GET', base .. 'format')}
