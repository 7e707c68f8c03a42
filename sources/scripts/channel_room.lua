#!lua flags=allow-oom
-- A sender comes to a channel, or has waited for a while: make it known, count its room again.
-- KEYS[1] head; ARGV[1] channel, ARGV[2] capacity. Answers OPEN or CLOSED.
-- include: room.lua
-- include: settled.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
redis.call('HSETNX', base .. 'channels', ARGV[1], ARGV[2])
return make_room(base, ARGV[1])
