#!lua flags=no-writes
-- Commits in the outbox with outputs after a sequence. KEYS[1] head; ARGV[1] sequence, ARGV[2] number of outputs,
-- ARGV[3] bytes: no more commits once there are so many of either.
-- Answers a flat list: first sequence, blob, first sequence, blob ...
local outbox = string.sub(KEYS[1], 1, -5) .. 'outbox'
local after, wanted, room = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local answer = {}

local function take(entries)
  for _, entry in ipairs(entries) do
    local first = tonumber(string.match(entry[1], '^(%d+)'))
    local count = tonumber(entry[2][2])
    if first + count - 1 > after then
      answer[#answer + 1] = string.match(entry[1], '^(%d+)')
      answer[#answer + 1] = entry[2][4]
      wanted = wanted - count
      room = room - #entry[2][4]
      if wanted <= 0 or room <= 0 then return end
    end
  end
end

take(redis.call('XREVRANGE', outbox, ARGV[1], '-', 'COUNT', 1))
local from = '(' .. ARGV[1] .. '-0'
while wanted > 0 and room > 0 do
  local entries = redis.call('XRANGE', outbox, from, '+', 'COUNT', 16)
  take(entries)
  if #entries < 16 then break end
  from = '(' .. entries[#entries][1]
end
return answer
