-- Dead letters: `dead` is their stream, the hash `letters` says how many are kept: `age` (milliseconds), `count`, `bytes`
-- are the caps, as the owner's version of the workflow has them (not there: none); `held` is how many bytes lie in the
-- stream, `dropped:<cap>` how many letters were ever dropped for it. An entry without `size` is older than all that.
local function add_letter(base, id, blob)
  redis.call('XADD', base .. 'dead', '*', 'id', id, 'blob', blob, 'size', tostring(#blob))
  redis.call('HINCRBY', base .. 'letters', 'held', #blob)
end

-- Take out the letter of this entry (as XRANGE has it), which is there.
local function remove_letter(base, entry)
  redis.call('XDEL', base .. 'dead', entry[1])
  local size = tonumber(entry[2][6] or '0')
  if redis.call('HINCRBY', base .. 'letters', 'held', -size) < 0 then redis.call('HSET', base .. 'letters', 'held', '0') end
end

-- Drop the oldest ones that are over a cap, `most` of them at most. Answers whether none is left that is.
local function trim_letters(base, most)
  local dead, book = base .. 'dead', base .. 'letters'
  local caps = redis.call('HMGET', book, 'age', 'count', 'bytes')
  local age, count, bytes = tonumber(caps[1]), tonumber(caps[2]), tonumber(caps[3])
  local now = redis.call('TIME')
  now = now[1] * 1000 + math.floor(now[2] / 1000)
  for _ = 1, most + 1 do
    local oldest = redis.call('XRANGE', dead, '-', '+', 'COUNT', 1)[1]
    if not oldest then return true end
    local came, cap = tonumber(string.match(oldest[1], '^%d+')), nil
    if age and now - came > age then cap = 'age'
    elseif count and redis.call('XLEN', dead) > count then cap = 'count'
    elseif bytes and tonumber(redis.call('HGET', book, 'held') or '0') > bytes then cap = 'bytes' end
    if not cap then return true end
    if most == 0 then return false end
    most = most - 1
    remove_letter(base, oldest)
    redis.call('HINCRBY', book, 'dropped:' .. cap, 1)
  end
  return false
end
