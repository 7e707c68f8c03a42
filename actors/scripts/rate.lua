#!lua flags=allow-oom
-- Count one request: take a token out of each of some buckets, or out of none of them.
-- KEYS[1] what names of buckets begin with; for each bucket: name, tokens it holds, milliseconds in which it fills.
-- Answers 1 or 0 (one was empty), then for each bucket: whole tokens left, milliseconds until it is full, milliseconds
-- until it has one.
-- include: settled.lua
if moving(KEYS[1]) then return redis.error_reply(MOVING) end
local FIELDS = 3
if #ARGV == 0 or #ARGV % FIELDS ~= 0 then return redis.error_reply('INVALID buckets: fields') end
for first = 1, #ARGV, FIELDS do
  local holds, fills = tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
  if not holds or not fills or holds < 1 or fills < 1 then return redis.error_reply('INVALID buckets: numbers') end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local buckets, allowed = {}, 1
for first = 1, #ARGV, FIELDS do
  local name, holds, fills = KEYS[1] .. ARGV[first], tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
  local tokens = holds
  local left, at = string.match(redis.call('GET', name) or '', '^(%S+) (%d+)$')
  if left then
    -- A clock that was set back fills nothing.
    tokens = math.min(holds, tonumber(left) + math.max(0, now - tonumber(at)) * holds / fills)
  end
  if tokens < 1 then allowed = 0 end
  table.insert(buckets, {name = name, holds = holds, fills = fills, tokens = tokens})
end
local answer = {allowed}
for _, bucket in ipairs(buckets) do
  if allowed == 1 then bucket.tokens = bucket.tokens - 1 end
  local each = bucket.fills / bucket.holds
  local full = math.ceil((bucket.holds - bucket.tokens) * each)
  if allowed == 1 then
    redis.call('SET', bucket.name, string.format('%.6f %.0f', bucket.tokens, now), 'PX', full + 1000)
  end
  table.insert(answer, math.floor(bucket.tokens))
  table.insert(answer, full)
  table.insert(answer, math.max(0, math.ceil((1 - bucket.tokens) * each)))
end
return answer
