#!lua flags=no-writes
-- What changes whenever anybody writes to a partition. KEYS[1] head. Answers {state of its head, state of its streams}.
-- include: settled.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local function text(list)
  for i = 1, #list do list[i] = tostring(list[i]) end
  return table.concat(list, '\n')
end
local head = text(redis.call('HMGET', KEYS[1], 'owner', 'sequence', 'outbox', 'torn', 'ended', 'term'))

local function stream(key)
  local told = redis.pcall('XINFO', 'STREAM', key)
  if told.err then return '-' end
  local found = {}
  for i = 1, #told, 2 do
    if told[i] == 'length' or told[i] == 'last-generated-id' then found[#found + 1] = told[i + 1] end
  end
  return text(found)
end
local streams = {}
for _, name in ipairs({'inbox', 'internal', 'outbox', 'dead'}) do streams[#streams + 1] = stream(base .. name) end
local channels = redis.call('HGETALL', base .. 'channels')
for i = 1, #channels, 2 do
  streams[#streams + 1] = channels[i] .. channels[i + 1]
  streams[#streams + 1] = stream(base .. 'channel:' .. channels[i])
  streams[#streams + 1] = redis.call('LLEN', base .. 'credits:' .. channels[i])
end
return {head, text(streams)}
