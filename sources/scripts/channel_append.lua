#!lua
-- One event into a channel; a repeat (same sender and number) is answered, not appended again.
-- KEYS[1] head; ARGV[1] channel, [2] sender, [3] its number, [4] '1' when it holds a token, [5] key, [6] time (ms),
-- [7] data. Answers APPENDED, WAIT (take a token first), FULL (the token was one too many) or CLOSED.
-- include: room.lua
-- include: settled.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local channel, sender, number = ARGV[1], ARGV[2], tonumber(ARGV[3])
local stream, credits, last = base .. 'channel:' .. channel, base .. 'credits:' .. channel, base .. 'sender:' .. sender

if tonumber(redis.call('GET', last) or '0') >= number then
  redis.call('PEXPIRE', last, 3600000) -- so that a wait that follows speaks of this event
  return 'APPENDED'
end
if redis.call('HGET', base .. 'channels', 'closed:' .. channel) then return make_room(base, channel) end
if ARGV[4] ~= '1' and not redis.call('LPOP', credits) then return 'WAIT' end
local capacity = tonumber(redis.call('HGET', base .. 'channels', channel) or '0')
if redis.call('XLEN', stream) >= capacity then return 'FULL' end
redis.call('XADD', stream, '*', 'id', sender .. ':' .. ARGV[3], 'key', ARGV[5], 'time', ARGV[6], 'data', ARGV[7])
redis.call('SET', last, ARGV[3], 'PX', 3600000)
return 'APPENDED'
