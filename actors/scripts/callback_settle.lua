#!lua flags=allow-oom
-- What came of a callback that was in hand. KEYS[1] head; ARGV[1] id, [2] token of who had it, [3] 'delivered', 'dead',
-- 'retry' or 'postponed' (no attempt was made), [4] milliseconds until it is due again, [5] JSON of the attempt or ''.
-- Answers DONE, or TAKEN: another one has it in hand, or it is no more.
-- include: settled.lua
-- include: callbacks.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local id, token, outcome, after, attempt = unpack(ARGV, 1, 5)
local OUTCOMES = {delivered = 1, dead = 1, retry = 1, postponed = 1}
if not (OUTCOMES[outcome] and tonumber(after)) then
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
redis.call('ZREM', base .. 'callbacks_since', id)
redis.call('HSET', key, 'status', outcome)
redis.call('PEXPIRE', key, CALLBACKS_KEPT)
if outcome == 'dead' then callback_is_dead(base, id, now) end
return 'DONE'
