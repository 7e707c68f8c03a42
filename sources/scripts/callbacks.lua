-- What is told of runs: `callback:<id>` is a hash (run, type, url, body, made, queued: when it was last queued,
-- status, tries: since then, attempts: of all time, attempt:<n> JSON of one, claim: token of who has it in hand); `callbacks` are those to be
-- told, by when (milliseconds), `callbacks_since` the same ones, by when they were queued; `callbacks_dead` those given up, by when; `callbacks_of:<run>` all of a run, by when
-- they occurred.
local CALLBACKS_OF_RUN = 1000
local CALLBACKS_WAITING = 100000
local CALLBACKS_KEPT = '2592000000' -- 30 days
local CALLBACKS_DEAD = 10000

local function callback_now()
  local now = redis.call('TIME')
  return string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
end

local function callback_is_dead(base, id, now)
  local dead = base .. 'callbacks_dead'
  redis.call('ZADD', dead, now, id)
  redis.call('ZREMRANGEBYSCORE', dead, '-inf', string.format('%.0f', tonumber(now) - tonumber(CALLBACKS_KEPT)))
  for _, old in ipairs(redis.call('ZRANGE', dead, '0', -CALLBACKS_DEAD - 1)) do
    redis.call('ZREM', dead, old)
    redis.call('UNLINK', base .. 'callback:' .. old)
  end
end

local function add_callback(base, id, run, kind, url, body)
  local now, of_run = callback_now(), base .. 'callbacks_of:' .. run
  redis.call('HSET', base .. 'callback:' .. id, 'run', run, 'type', kind, 'url', url, 'body', body, 'made', now,
    'queued', now, 'status', 'pending', 'tries', '0', 'attempts', '0')
  if redis.call('ZCARD', base .. 'callbacks') < CALLBACKS_WAITING then
    redis.call('ZADD', base .. 'callbacks', now, id)
    redis.call('ZADD', base .. 'callbacks_since', now, id)
  else -- nobody sends, or a receiver is away: it is given up at once, so that memory is bounded
    redis.call('HSET', base .. 'callback:' .. id, 'status', 'dead', 'attempts', '1', 'attempt:1',
      cjson.encode({at = tonumber(now), milliseconds = 0, error = CALLBACKS_WAITING .. ' callbacks wait in this partition'}))
    redis.call('PEXPIRE', base .. 'callback:' .. id, CALLBACKS_KEPT)
    callback_is_dead(base, id, now)
  end
  redis.call('ZADD', of_run, now, id)
  redis.call('ZREMRANGEBYRANK', of_run, 0, -CALLBACKS_OF_RUN - 1)
  redis.call('PEXPIRE', of_run, CALLBACKS_KEPT)
end

local function forget_callback(base, id)
  redis.call('ZREM', base .. 'callbacks', id)
  redis.call('ZREM', base .. 'callbacks_since', id)
  redis.call('ZREM', base .. 'callbacks_dead', id)
  redis.call('UNLINK', base .. 'callback:' .. id)
end

-- A key is forgotten: what was to be told of it is not, and what was told is not known any more.
local function forget_callbacks(base, run)
  for _, id in ipairs(redis.call('ZRANGE', base .. 'callbacks_of:' .. run, '0', '-1')) do forget_callback(base, id) end
  redis.call('UNLINK', base .. 'callbacks_of:' .. run)
end
