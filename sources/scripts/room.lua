-- Room of a channel: its list of credits gets a token for every free place that has none.
-- Tokens only wake senders up, the longest waiting first; how many entries fit is decided at the append.
-- The channel's closed mark puts a single token there, which each sender hands on to the next.
local function make_room(base, channel)
  local channels = base .. 'channels'
  local credits = base .. 'credits:' .. channel
  if redis.call('HGET', channels, 'closed:' .. channel) then
    if redis.call('LLEN', credits) == 0 then redis.call('RPUSH', credits, 'x') end
    return 'CLOSED'
  end
  local capacity = tonumber(redis.call('HGET', channels, channel) or '0')
  local missing = capacity - redis.call('XLEN', base .. 'channel:' .. channel) - redis.call('LLEN', credits)
  while missing > 0 do
    local tokens = {}
    for i = 1, math.min(missing, 1000) do tokens[i] = 'x' end
    redis.call('RPUSH', credits, unpack(tokens))
    missing = missing - #tokens
  end
  return 'OPEN'
end

-- The last entry of a closed channel is a mark, so that a reader knows when it has read everything.
local function close_channel(base, channel)
  if redis.call('HSETNX', base .. 'channels', 'closed:' .. channel, '1') == 1 then
    redis.call('XADD', base .. 'channel:' .. channel, '*', 'closed', '1')
    redis.call('DEL', base .. 'credits:' .. channel)
  end
  make_room(base, channel)
end
