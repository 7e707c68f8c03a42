#!lua flags=allow-oom
-- What came of a callback that was in hand. KEYS[1] head; ARGV[1] id, [2] token of who had it, [3] 'delivered', 'dead',
-- 'retry' or 'postponed' (no attempt was made), [4] milliseconds until it is due again, [5] JSON of the attempt or '',
-- [6] milliseconds to keep it once it is done, [7] how many that are given up are kept. Answers DONE, or TAKEN: another
-- one has it in hand, or it is no more.
-- include: settled.lua
-- include: callbacks.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local id, token, outcome, after, attempt, keep, most = unpack(ARGV, 1, 7)
local OUTCOMES = {delivered = 1, dead = 1, retry = 1, postponed = 1}
if not (OUTCOMES[outcome] and tonumber(after) and tonumber(keep) and tonumber(most)) then
  return redis.error_reply('INVALID settlement')
end
local ATTEMPTS_KEPT = 50
local key = base .. 'callback:' .. id
if redis.call('HGET', key, 'claim') ~= token then return 'TAKEN' end
local now = callback_now()
redis.call('HDEL', key, 'claim')
if attempt ~= '' then
  redis.call('HINCRBY', key, 'tries', '1')
  local number = redis.call('HINCRBY', key, 'attempts', '1')
  redis.call('HSET', key, 'attempt:' .. string.format('%.0f', number), attempt)
  redis.call('HDEL', key, 'attempt:' .. string.format('%.0f', number - ATTEMPTS_KEPT))
end
if outcome == 'retry' or outcome == 'postponed' then
  redis.call('ZADD', base .. 'callbacks', string.format('%.0f', tonumber(now) + tonumber(after)), id)
  return 'DONE'
end
redis.call('ZREM', base .. 'callbacks', id)
redis.call('HSET', key, 'status', outcome)
redis.call('PEXPIRE', key, keep)
if outcome == 'dead' then
  local dead = base .. 'callbacks_dead'
  redis.call('ZADD', dead, now, id)
  redis.call('ZREMRANGEBYSCORE', dead, '-inf', string.format('%.0f', tonumber(now) - tonumber(keep)))
  local over = redis.call('ZRANGE', dead, '0', string.format('%.0f', -tonumber(most) - 1))
  for _, old in ipairs(over) do
    redis.call('ZREM', dead, old)
    redis.call('UNLINK', base .. 'callback:' .. old)
  end
end
return 'DONE'
