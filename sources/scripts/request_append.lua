#!lua
-- Requests and messages into the inbox, in one step with the looks that decide whether they may come in.
-- KEYS[1] head; ARGV[1] reply channel, [2] quota of the inbox, [3] milliseconds that ids are remembered, then for each
-- request: id, key, source, body, headers or '', fingerprint of the request or '', what must be so of its run:
-- 'any'; 'new': none is running or about to begin; 'open': its last one has not ended; 'running': there is one;
-- id of the wait that it is for, see workflows/wait_claims.py, or ''.
-- Answers a word for each: APPENDED, ALREADY (same id), OTHER (same id, another fingerprint), FULL, RUNNING, ENDED,
-- UNKNOWN, TAKEN (another one has claimed the wait, or it is over). A run that is to begin by a request that still lies here is noted, so that a second start finds it.
-- include: settled.lua
-- include: done.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local inbox, reply, quota, remembered = base .. 'inbox', ARGV[1], tonumber(ARGV[2]), ARGV[3]
local STARTING_MILLISECONDS = '3600000'
local CLAIMED_MILLISECONDS = '3600000'
local FIELDS = 8
local CONDITIONS = {any = 1, new = 1, open = 1, running = 1}
if (#ARGV - 3) % FIELDS ~= 0 then return redis.error_reply('INVALID request: fields') end
for first = 4, #ARGV, FIELDS do
  if not CONDITIONS[ARGV[first + 6]] then return redis.error_reply('INVALID request: condition') end
end

local now = redis.call('TIME')
local milliseconds = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
local length = redis.call('XLEN', inbox)
local over = redis.call('HGET', KEYS[1], 'ended') == '1'
local position = redis.call('HGET', base .. 'positions', 'inbox') or '0-0'

local function stand(key) -- of the run of a key: RUNNING, ENDED, UNKNOWN
  local starting = redis.call('GET', base .. 'starting:' .. key)
  if starting and not is_done(starting, position) then return 'RUNNING' end
  local status = redis.call('HGET', base .. 'run:' .. key, 'status')
  if not status then return 'UNKNOWN' end
  return status == 'running' and 'RUNNING' or 'ENDED'
end

local function refused(condition, found)
  if condition == 'new' then return found == 'RUNNING' end
  if condition == 'open' then return found == 'ENDED' end
  if condition == 'running' then return found ~= 'RUNNING' end
  return false
end

local function is_taken(key, claim)
  local before = redis.call('GET', base .. 'claimed:' .. key .. ':' .. claim)
  if before and not is_done(before, position) then return true end
  local number, generation = string.match(claim, '^(%d+)%.(%d+)$')
  if not number then return false end -- of a workflow that is a node: only workers know
  local run = redis.call('HMGET', base .. 'run:' .. key, 'number', 'wait')
  local stand = run[2] and cjson.decode(run[2]) or {'', 0}
  return stand[1] == '' or run[1] ~= number or string.format('%.0f', stand[2]) ~= generation
end

local function admit(id, key, source, body, headers, fingerprint, condition, claim)
  local seen = base .. 'request:' .. id
  local before = redis.call('GET', seen)
  if before then
    if string.match(before, '^[^ ]*') ~= fingerprint then return 'OTHER' end
    redis.call('SET', seen, fingerprint .. ' ' .. key, 'PX', remembered) -- so that a wait that follows speaks of this request
    return 'ALREADY'
  end
  if over then return 'ENDED' end
  local found = key == '' and 'RUNNING' or stand(key)
  if key ~= '' and refused(condition, found) then return found end
  if claim ~= '' and is_taken(key, claim) then return 'TAKEN' end
  if length >= quota then return 'FULL' end
  local entry = {'id', id, 'key', key, 'source', source, 'data', body, 'reply', reply, 'time', milliseconds}
  if headers ~= '' then
    entry[#entry + 1] = 'headers'
    entry[#entry + 1] = headers
  end
  local place = redis.call('XADD', inbox, '*', unpack(entry))
  length = length + 1
  redis.call('SET', seen, fingerprint .. ' ' .. key, 'PX', remembered) -- by its key it is found if that is to be forgotten
  if claim ~= '' then
    redis.call('SET', base .. 'claimed:' .. key .. ':' .. claim, place, 'PX', CLAIMED_MILLISECONDS)
  end
  local begins = found ~= 'RUNNING' or (key == '' and stand('') == 'UNKNOWN')
  if begins and condition ~= 'running' then
    redis.call('SET', base .. 'starting:' .. key, place, 'PX', STARTING_MILLISECONDS)
  end
  return 'APPENDED'
end

local answers = {}
for first = 4, #ARGV, FIELDS do answers[#answers + 1] = admit(unpack(ARGV, first, first + FIELDS - 1)) end
return answers
