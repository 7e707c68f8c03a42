#!lua flags=allow-oom
-- Delivered outputs go. KEYS[1] head; ARGV[1] owner, ARGV[2] sequence of the last one delivered.
-- Answers APPLIED or FENCED. An entry goes when all of its outputs are delivered.
local outbox = string.sub(KEYS[1], 1, -5) .. 'outbox'
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 'FENCED' end
local keep = string.format('%.0f', tonumber(ARGV[2]) + 1)
local last = redis.call('XREVRANGE', outbox, ARGV[2], '-', 'COUNT', 1)[1]
if last then
  local first = string.match(last[1], '^(%d+)')
  if tonumber(first) + tonumber(last[2][2]) - 1 > tonumber(ARGV[2]) then keep = first end
end
redis.call('XTRIM', outbox, 'MINID', keep)
return 'APPLIED'
