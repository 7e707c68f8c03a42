#!lua flags=no-writes
-- Callbacks, the newest first, without their bodies. KEYS[1] head; ARGV[1] name of the sorted set that has them, [2] how
-- many at most. Answers for each: id, time in the set, when it is due or '', fields and values.
local base = string.sub(KEYS[1], 1, -5)
local rows = redis.call('ZREVRANGE', base .. ARGV[1], '0', string.format('%.0f', tonumber(ARGV[2]) - 1), 'WITHSCORES')
local found = {}
for i = 1, #rows, 2 do
  local flat = redis.call('HGETALL', base .. 'callback:' .. rows[i])
  local shown = {}
  for j = 1, #flat, 2 do
    if flat[j] ~= 'body' then
      shown[#shown + 1] = flat[j]
      shown[#shown + 1] = flat[j + 1]
    end
  end
  if #flat > 0 then
    local due = redis.call('ZSCORE', base .. 'callbacks', rows[i])
    found[#found + 1] = {rows[i], rows[i + 1], due or '', shown}
  end
end
return found
