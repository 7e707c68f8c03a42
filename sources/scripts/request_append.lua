#!lua
-- One request into the inbox; a repeat (same id) is answered, not appended again.
-- KEYS[1] head; ARGV[1] id, [2] key, [3] source, [4] body, [5] reply channel, [6] quota of the inbox, [7] headers, or '',
-- [8] milliseconds that its id is remembered.
-- Answers APPENDED, ALREADY, FULL, or ENDED: the run of the unkeyed workflow has, and nobody would process it.
-- include: settled.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local inbox, seen, remembered = base .. 'inbox', base .. 'request:' .. ARGV[1], ARGV[8] or '600000'
-- It is written again, so that a wait that follows speaks of this request.
if redis.call('SET', seen, '1', 'XX', 'PX', remembered) then return 'ALREADY' end
if redis.call('HGET', KEYS[1], 'ended') == '1' then return 'ENDED' end
if redis.call('XLEN', inbox) >= tonumber(ARGV[6]) then return 'FULL' end
local now = redis.call('TIME')
local milliseconds = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
local entry = {'id', ARGV[1], 'key', ARGV[2], 'source', ARGV[3], 'data', ARGV[4], 'reply', ARGV[5], 'time', milliseconds}
if ARGV[7] and ARGV[7] ~= '' then
  entry[#entry + 1] = 'headers'
  entry[#entry + 1] = ARGV[7]
end
redis.call('XADD', inbox, '*', unpack(entry))
redis.call('SET', seen, '1', 'PX', remembered)
return 'APPENDED'
