#!lua flags=allow-oom
-- An event is about to enter a node in a process that is careful: it counts as one that has ended its process until the
-- process says that it has passed. KEYS[1] head; ARGV[1] owner, [2] event that enters (may be empty), [3] event that
-- has passed (may be empty). One that has passed in a process whose partition has another owner by now has ended one
-- process less than it seemed. Answers {FENCED}, or {NOTED, event, how many processes it has ended, ...}.
-- include: settled.lua
local KEPT_MILLISECONDS = 86400000
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local deaths = base .. 'deaths'
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
  if ARGV[3] ~= '' and redis.call('HEXISTS', deaths, ARGV[3]) == 1 then
    if redis.call('HINCRBY', deaths, ARGV[3], -1) < 1 then redis.call('HDEL', deaths, ARGV[3]) end
  end
  return {'FENCED'}
end
if ARGV[3] ~= '' then redis.call('HDEL', deaths, ARGV[3]) end
local answer = {'NOTED'}
if ARGV[2] == '' then
  for _, part in ipairs(redis.call('HGETALL', deaths)) do answer[#answer + 1] = part end
else
  redis.call('HINCRBY', deaths, ARGV[2], 1)
  redis.call('PEXPIRE', deaths, KEPT_MILLISECONDS)
end
return answer
