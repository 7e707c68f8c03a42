#!lua flags=allow-oom
-- Tell callers that their replies are there: for commits that say nothing until they are durable.
-- KEYS[1] head; ARGV[1] msgpack list of [request, channel]. What is published is the reply that stays: the first.
local base = string.sub(KEYS[1], 1, -5)
for _, asked in ipairs(cmsgpack.unpack(ARGV[1])) do
  local body = redis.call('GET', base .. 'reply:' .. asked[1])
  if body then redis.call('PUBLISH', asked[2], asked[1] .. ' ' .. body) end
end
