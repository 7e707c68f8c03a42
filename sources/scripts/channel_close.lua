#!lua flags=allow-oom
-- Nothing more goes into a channel; who waits for room is woken.
-- KEYS[1] head; ARGV[1] channel.
-- include: room.lua
-- include: settled.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
close_channel(base, ARGV[1])
redis.call('HSET', base .. 'channels', 'closed:' .. ARGV[1], '1') -- again, so that a wait that follows speaks of it
return 'CLOSED'
