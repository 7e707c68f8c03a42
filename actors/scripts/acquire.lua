#!lua flags=allow-oom
-- A worker becomes the owner of a partition.
-- KEYS[1] head; ARGV[1] msgpack [term, placement, owner token, worker, channels (name -> capacity), acquirer,
-- attempt, caps of dead letters (name -> number)], all strings. An attempt that arrives after a later one of the same acquirer (it lay in the socket of a
-- server that hung) is as stale as an older placement: it would fence the owner by a token that nobody knows.
-- Answers {ACQUIRED, fields of the head, positions, run id of the server, fields of parked events, those due with their
-- times, the first of the timers with its time}, {STALE, term, placement} or {TORN, sequence, reason}.
-- include: room.lua
-- include: settled.lua
-- include: run_id.lua
-- include: streams.lua
local head = KEYS[1]
local base = string.sub(head, 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local asked = cmsgpack.unpack(ARGV[1])
local term, placement = asked[1], asked[2]

local torn = redis.call('HGET', head, 'torn')
if torn then return {'TORN', torn, redis.call('HGET', head, 'torn_reason') or ''} end
local stored = redis.call('HMGET', head, 'term', 'placement', 'acquirer', 'attempt')
local stored_term, stored_placement = tonumber(stored[1] or '0'), tonumber(stored[2] or '0')
if tonumber(term) < stored_term or (tonumber(term) == stored_term and tonumber(placement) < stored_placement) then
  return {'STALE', stored[1] or '0', stored[2] or '0'}
end
if stored[3] == asked[6] and tonumber(stored[4]) > tonumber(asked[7]) then
  return {'STALE', stored[1], stored[2]}
end

-- How many workers in a row have neither given it up in order nor had it for a while: see calm.lua. One that has it
-- anew lives: it has rolled back.
local former = redis.call('HMGET', head, 'worker', 'released', 'falls')
local falls = 0
if former[1] and not former[2] then
  falls = tonumber(former[3] or '0')
  if former[1] ~= asked[4] then falls = falls + 1 end
end
redis.call('HDEL', head, 'released')
local now = redis.call('TIME')
local since = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('HSET', head, 'owner', asked[3], 'term', term, 'placement', placement, 'worker', asked[4], 'since', since,
  'acquirer', asked[6], 'attempt', asked[7], 'falls', string.format('%.0f', falls))
streams_cut_all(base)
for channel, capacity in pairs(asked[5]) do
  redis.call('HSET', base .. 'channels', channel, capacity)
  make_room(base, channel)
end
for _, cap in ipairs({'age', 'count', 'bytes'}) do
  if asked[8][cap] then redis.call('HSET', base .. 'letters', cap, asked[8][cap])
  else redis.call('HDEL', base .. 'letters', cap) end
end
return {'ACQUIRED', redis.call('HGETALL', head), redis.call('HGETALL', base .. 'positions'), run_id(),
  redis.call('HKEYS', base .. 'parked'), redis.call('ZRANGE', base .. 'due', 0, -1, 'WITHSCORES'),
  redis.call('ZRANGE', base .. 'timers', 0, 0, 'WITHSCORES')}
