#!lua
-- Events that come from another partition. KEYS[1] head; ARGV[1] where from, [2] number of the first, [3] most entries
-- that may lie here, [4] '1': whoever was never heard of must begin with number 1, [5] head of the sender ('' where
-- another server may have it), [6] its owner token, [7] number of the last output sent here in its outbox, [8...] the
-- events (blobs). Numbers that are here are skipped, so that it may be asked again. Answers {APPENDED, last number},
-- {GAP, last number}, {FULL, entries}, {ENDED}, or {LOST}: the sender's own commit is not in the store (any more).
-- include: settled.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local from, stream = base .. 'from', base .. 'internal'
local first, EVENTS = tonumber(ARGV[2]), 8

if ARGV[5] ~= '' then
  local sender = redis.call('HMGET', ARGV[5], 'owner', 'outbox')
  if sender[1] ~= ARGV[6] or tonumber(sender[2] or '0') < tonumber(ARGV[7]) then return {'LOST'} end
end
if redis.call('HGET', KEYS[1], 'ended') == '1' then return {'ENDED'} end
local known = redis.call('HGET', from, ARGV[1]) or (ARGV[4] == '1' and '0' or tostring(first - 1))
local last = tonumber((string.gsub(known, '%+$', '')))
-- It was restored from a backup: what was sent after that, and forgotten by its sender, is gone.
if string.sub(known, -1) == '+' then last = math.max(last, first - 1) end
if first > last + 1 then return {'GAP', string.format('%.0f', last)} end
local through = first + #ARGV - EVENTS
if through > last then
  local length = redis.call('XLEN', stream)
  if length >= tonumber(ARGV[3]) then return {'FULL', length} end
  for number = last + 1, through do
    redis.call('XADD', stream, '*', 'blob', ARGV[EVENTS + number - first])
  end
  last = through
end
redis.call('HSET', from, ARGV[1], string.format('%.0f', last)) -- also where all of it was here: see Durable
return {'APPENDED', string.format('%.0f', last)}
