#!lua flags=allow-oom
-- A key has been forgotten by its owner: what callers of the gateway have left of it goes, too. KEYS[1] head; ARGV[1] the
-- key, then names, without what all of the partition begin with, of what was found to be of it: `reply:`, `request:`,
-- `claimed:` and `callback:`, each with the rest. Answers how many there were. What is to begin its next run by a request that still
-- lies in the inbox stays.
-- include: settled.lua
-- include: done.lua
-- include: callbacks.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local key, KINDS = ARGV[1], {reply = 1, request = 1, claimed = 1, callback = 1}
for i = 2, #ARGV do
  if not KINDS[string.match(ARGV[i], '^(%l+):.')] then return redis.error_reply('INVALID name') end
end

local starting = redis.call('GET', base .. 'starting:' .. key)
if starting and is_done(starting, redis.call('HGET', base .. 'positions', 'inbox') or '0-0') then
  redis.call('UNLINK', base .. 'starting:' .. key)
end
forget_callbacks(base, key)
local gone = 0
for i = 2, #ARGV do
  local id = string.match(ARGV[i], '^callback:(.+)$')
  if not id then
    gone = gone + redis.call('UNLINK', base .. ARGV[i])
  elseif redis.call('HGET', base .. ARGV[i], 'run') == key then
    forget_callback(base, id)
    gone = gone + 1
  end
end
redis.call('HSET', KEYS[1], 'touched', '1')
return gone
