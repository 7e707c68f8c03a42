#!lua flags=allow-oom
-- All is well with a partition: its owner has had it for a while, or gives it up in order. KEYS[1] head; ARGV[1] owner,
-- [2] '1': it gives it up. Answers APPLIED or FENCED.
-- include: settled.lua
local head = KEYS[1]
local base = string.sub(head, 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
if redis.call('HGET', head, 'owner') ~= ARGV[1] then return 'FENCED' end
redis.call('HSET', head, 'falls', '0')
redis.call('UNLINK', base .. 'deaths')
if ARGV[2] == '1' then redis.call('HSET', head, 'released', '1') end
return 'APPLIED'
