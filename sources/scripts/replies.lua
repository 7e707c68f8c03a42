#!lua flags=allow-oom
-- Replies that are to be given out, in one step with a write that says nothing: who waits for it on this connection
-- has waited for the replies. KEYS[1] head; ARGV ids of requests. Answers their bodies, in order; nil where none is.
-- include: settled.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
redis.call('HSET', KEYS[1], 'touched', '1')
local found = {}
for i, request in ipairs(ARGV) do found[i] = redis.call('GET', base .. 'reply:' .. request) end
return found
