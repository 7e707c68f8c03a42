#!lua flags=allow-oom
-- Tell callers that their replies are there, and readers that runs have changed: for commits that say nothing until
-- they are durable. KEYS[1] head; ARGV[1] msgpack list of [request, channel]; ARGV[2] JSON list of runs, or empty.
-- What is published is the reply that stays: the first.
local base = string.sub(KEYS[1], 1, -5)
for _, asked in ipairs(cmsgpack.unpack(ARGV[1])) do
  local body = redis.call('GET', base .. 'reply:' .. asked[1])
  if body then redis.call('PUBLISH', asked[2], asked[1] .. ' ' .. body) end
end
if ARGV[2] ~= '' then redis.call('PUBLISH', base .. 'changes', ARGV[2]) end
