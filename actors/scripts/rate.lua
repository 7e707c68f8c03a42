#!lua flags=allow-oom
-- Count one request: take a token out of each of some buckets, or out of none of them.
-- KEYS[1] what names of buckets begin with; for each bucket: name, tokens it holds, milliseconds in which it fills, and
-- 'bucket' if it fills steadily, 'window' if it does all at once when a window of so many milliseconds is over.
-- Answers 1 or 0 (one was empty), then for each bucket: whole tokens left, milliseconds until it is full, milliseconds
-- until it has one.
-- include: settled.lua
if moving(KEYS[1]) then return redis.error_reply(MOVING) end
local FIELDS = 4
if #ARGV == 0 or #ARGV % FIELDS ~= 0 then return redis.error_reply('INVALID buckets: fields') end
for first = 1, #ARGV, FIELDS do
  local holds, fills = tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
  if not holds or not fills or holds < 1 or fills < 1 then return redis.error_reply('INVALID buckets: numbers') end
  if ARGV[first + 3] ~= 'bucket' and ARGV[first + 3] ~= 'window' then return redis.error_reply('INVALID buckets: kind') end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local buckets, allowed = {}, 1
for first = 1, #ARGV, FIELDS do
  local name, holds, fills = KEYS[1] .. ARGV[first], tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
  local tokens = holds
  local left, at = string.match(redis.call('GET', name) or '', '^(%S+) (%d+)$')
  local window = ARGV[first + 3] == 'window'
  if left and window then
    -- A clock that was set back begins no window anew.
    if math.floor(tonumber(at) / fills) >= math.floor(now / fills) then tokens = tonumber(left) end
  elseif left then
    -- A clock that was set back fills nothing.
    tokens = math.min(holds, tonumber(left) + math.max(0, now - tonumber(at)) * holds / fills)
  end
  if tokens < 1 then allowed = 0 end
  table.insert(buckets, {name = name, holds = holds, fills = fills, tokens = tokens, window = window})
end
local answer = {allowed}
for _, bucket in ipairs(buckets) do
  if allowed == 1 then bucket.tokens = bucket.tokens - 1 end
  local each = bucket.fills / bucket.holds
  local full = math.ceil((bucket.holds - bucket.tokens) * each)
  local wait = math.max(0, math.ceil((1 - bucket.tokens) * each))
  if bucket.window then
    full = bucket.fills - now % bucket.fills
    wait = bucket.tokens < 1 and full or 0
  end
  if allowed == 1 then
    redis.call('SET', bucket.name, string.format('%.6f %.0f', bucket.tokens, now), 'PX', full + 1000)
  end
  table.insert(answer, math.floor(bucket.tokens))
  table.insert(answer, full)
  table.insert(answer, wait)
end
return answer
