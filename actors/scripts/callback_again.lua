#!lua flags=allow-oom
-- A callback is to be told once more. KEYS[1] head; ARGV[1] id, [2] its run. Answers QUEUED, PENDING (it is to be told
-- anyway; now, unless somebody has it in hand), or UNKNOWN.
-- include: settled.lua
-- include: callbacks.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local id, key = ARGV[1], base .. 'callback:' .. ARGV[1]
local stored = redis.call('HMGET', key, 'run', 'status', 'claim')
if not stored[1] or stored[1] ~= ARGV[2] then return 'UNKNOWN' end
if stored[2] == 'pending' then
  if not stored[3] then redis.call('ZADD', base .. 'callbacks', callback_now(), id) end
  redis.call('HSET', KEYS[1], 'touched', '1')
  return 'PENDING'
end
redis.call('PERSIST', key)
redis.call('HSET', key, 'status', 'pending', 'tries', '0', 'queued', callback_now())
redis.call('ZREM', base .. 'callbacks_dead', id)
redis.call('ZADD', base .. 'callbacks', callback_now(), id)
redis.call('ZADD', base .. 'callbacks_since', callback_now(), id)
return 'QUEUED'
