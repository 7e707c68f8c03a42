#!lua flags=allow-oom
-- Delivered outputs go. KEYS[1] head; ARGV[1] owner, [2] sequence of the last one delivered, [3] run id of the server
-- that the owner acquired the partition from. Answers APPLIED, FENCED, or ROLLED_BACK: the server was started again
-- since, perhaps without what was delivered to other partitions. An entry goes when all of its outputs are delivered.
-- include: run_id.lua
local outbox = string.sub(KEYS[1], 1, -5) .. 'outbox'
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 'FENCED' end
if run_id() ~= ARGV[3] then return 'ROLLED_BACK' end
local keep = string.format('%.0f', tonumber(ARGV[2]) + 1)
local last = redis.call('XREVRANGE', outbox, ARGV[2], '-', 'COUNT', 1)[1]
if last then
  local first = string.match(last[1], '^(%d+)')
  if tonumber(first) + tonumber(last[2][2]) - 1 > tonumber(ARGV[2]) then keep = first end
end
redis.call('XTRIM', outbox, 'MINID', keep)
return 'APPLIED'
