#!lua flags=allow-oom
-- Something is asked of runs from outside. KEYS[1] head; ARGV[1] id of the asking, [2] most entries that may lie here,
-- then what is asked (blobs). A repeat (same id) is answered, not appended again. Answers {ASKED, entry of the last one},
-- {FULL, entries}, or {ENDED}.
-- include: settled.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local stream, asked = base .. 'control', base .. 'asked:' .. ARGV[1]
local REMEMBERED = '600000'
local entry = redis.call('GET', asked)
if not entry then
  if redis.call('HGET', KEYS[1], 'ended') == '1' then return {'ENDED'} end
  local length = redis.call('XLEN', stream)
  if length >= tonumber(ARGV[2]) then return {'FULL', length} end
  for i = 3, #ARGV do entry = redis.call('XADD', stream, '*', 'blob', ARGV[i]) end
end
redis.call('SET', asked, entry, 'PX', REMEMBERED) -- also in a repeat, so that a wait that follows speaks of this
return {'ASKED', entry}
