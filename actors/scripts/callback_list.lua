#!lua flags=no-writes
-- Callbacks, the newest first, without their bodies. KEYS[1] head; ARGV[1] name of the sorted set that has them, [2] the
-- latest time in it that is meant, or '+inf', [3] how many of these to leave out, [4] how many to look at, [5] what keys of
-- runs begin with, [6] what they don't, or ''. Answers how many were looked at, then for each that fits: id, time in the
-- set, when it is due or '', fields and values.
local base = string.sub(KEYS[1], 1, -5)
local name, latest, skip, count, within, without = unpack(ARGV, 1, 6)
local rows = redis.call('ZREVRANGEBYSCORE', base .. name, latest, '-inf', 'WITHSCORES', 'LIMIT', skip, count)
local found = {#rows / 2}
for i = 1, #rows, 2 do
  local run = redis.call('HGET', base .. 'callback:' .. rows[i], 'run')
  local is_meant = run and string.sub(run, 1, #within) == within
  if is_meant and (without == '' or string.sub(run, 1, #without) ~= without) then
    local flat = redis.call('HGETALL', base .. 'callback:' .. rows[i])
    local shown = {}
    for j = 1, #flat, 2 do
      if flat[j] ~= 'body' then
        shown[#shown + 1] = flat[j]
        shown[#shown + 1] = flat[j + 1]
      end
    end
    local due = redis.call('ZSCORE', base .. 'callbacks', rows[i])
    found[#found + 1] = {rows[i], rows[i + 1], due or '', shown}
  end
end
return found
