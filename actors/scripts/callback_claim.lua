#!lua flags=allow-oom
-- Takes callbacks in hand that are due. KEYS[1] head; ARGV[1] token, [2] milliseconds after which they are due again
-- if nobody has said what came of them, [3] how many at most. Answers for each: id, run, type, url, body, queued,
-- tries, attempts. It always writes, so that a wait for durability that follows speaks of all that was committed before.
-- include: settled.lua
-- include: callbacks.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local token, lease, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if not (token and lease and most) then return redis.error_reply('INVALID claim') end
local BYTES_AT_ONCE = 4194304
local now = callback_now()
local found, size = {}, 0
redis.call('HSET', KEYS[1], 'touched', '1')
for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. 'callbacks', '-inf', now, 'LIMIT', '0', string.format('%.0f', most))) do
  local key = base .. 'callback:' .. id
  local row = redis.call('HMGET', key, 'run', 'type', 'url', 'body', 'queued', 'tries', 'attempts')
  if not row[1] then
    redis.call('ZREM', base .. 'callbacks', id)
    redis.call('ZREM', base .. 'callbacks_since', id)
  elseif size == 0 or size + #row[4] <= BYTES_AT_ONCE then
    redis.call('ZADD', base .. 'callbacks', string.format('%.0f', tonumber(now) + lease), id)
    redis.call('HSET', key, 'claim', token)
    size = size + #row[4]
    found[#found + 1] = {id, unpack(row)}
  end
end
return found
