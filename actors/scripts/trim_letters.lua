#!lua flags=allow-oom
-- Dead letters that are over a cap are dropped, the oldest first. KEYS[1] head; ARGV[1] owner, [2] how many at most.
-- Answers {TRIMMED, letters that lie there, bytes of them, '1' if none is over a cap any more, cap, how many were
-- dropped for it ever ...}, {FENCED} or {TORN}.
-- include: settled.lua
-- include: letters.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local stored = redis.call('HMGET', KEYS[1], 'owner', 'torn')
if stored[2] then return {'TORN'} end
if stored[1] ~= ARGV[1] then return {'FENCED'} end
local done = trim_letters(base, tonumber(ARGV[2]))
local answer = {'TRIMMED', redis.call('XLEN', base .. 'dead'), redis.call('HGET', base .. 'letters', 'held') or '0',
  done and '1' or '0'}
for _, cap in ipairs({'age', 'count', 'bytes'}) do
  answer[#answer + 1] = cap
  answer[#answer + 1] = redis.call('HGET', base .. 'letters', 'dropped:' .. cap) or '0'
end
return answer
