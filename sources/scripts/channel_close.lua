#!lua flags=allow-oom
-- Nothing more goes into a channel; who waits for room is woken.
-- KEYS[1] head; ARGV[1] channel.
-- include: room.lua
close_channel(string.sub(KEYS[1], 1, -5), ARGV[1])
return 'CLOSED'
