#!lua
-- Dead letters go back into the workflow. KEYS[1] head; ARGV[1] most entries that may lie in the internal stream; then
-- for each letter its entry and its event (a blob). One that is not there any more is on its way already, or dropped:
-- so it may be asked again. Answers {REPLAYED, how many}, {FULL, entries}, or {ENDED}.
-- include: settled.lua
-- include: letters.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local stream = base .. 'internal'
if redis.call('HGET', KEYS[1], 'ended') == '1' then return {'ENDED'} end
local length = redis.call('XLEN', stream)
if length >= tonumber(ARGV[1]) then return {'FULL', length} end
local count = 0
for i = 2, #ARGV, 2 do
  local letter = redis.call('XRANGE', base .. 'dead', ARGV[i], ARGV[i])[1]
  if letter then
    remove_letter(base, letter)
    redis.call('XADD', stream, '*', 'blob', ARGV[i + 1])
    count = count + 1
  end
end
redis.call('HSET', KEYS[1], 'touched', '1') -- so that a wait that follows speaks of this; see Durable
return {'REPLAYED', count}
