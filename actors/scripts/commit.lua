#!lua flags=allow-oom
-- All effects of an epoch, in one step. KEYS[1] head; ARGV[1] msgpack [owner, sequence, positions, runs, fresh,
-- ended, number of outputs, number of dead letters, replies (request, channel to publish on or empty, body, milliseconds to keep it), trims,
-- counters, number of parked events, those no longer parked, when the first of queues are due (field -> milliseconds),
-- those not due any more, timers (member -> milliseconds), timers that are no more, the answer to all requests that lie in
-- the inbox (channel to publish on is their own, or empty, body, milliseconds to keep it), or empty, JSON list of runs that
-- readers may wait for, or empty, attempts whose stream entries stay (run, number, stream, place), those whose go, runs that
-- have ended (run -> number), what is to be told of runs (id, run, type, address, body)], numbers as strings; ARGV[2] blob of all outputs (may be empty); then for each dead letter its
-- id and its blob, and for each parked event its field and its blob. Answers APPLIED, ALREADY, FENCED,
-- ROLLED_BACK, or {TORN, sequence, reason}.
-- A script is isolated, but an error in the middle leaves what was written before it. So everything is checked
-- first, and a mark stands in the head while it writes: an owner that finds the mark stops.
-- include: room.lua
-- include: settled.lua
-- include: letters.lua
-- include: streams.lua
-- include: callbacks.lua
local head = KEYS[1]
local base = string.sub(head, 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local asked = cmsgpack.unpack(ARGV[1])
local owner, sequence, positions, runs, fresh, ended = asked[1], asked[2], asked[3], asked[4], asked[5], asked[6]
local outputs, dead, replies, trims, counters = asked[7], asked[8], asked[9], asked[10], asked[11]
local parked, unparked, due, not_due = asked[12], asked[13], asked[14], asked[15]
local timers, no_timers, farewell, changed = asked[16], asked[17], asked[18], asked[19]
local sealed, cut, streams_ended = asked[20], asked[21], asked[22]
local callbacks = asked[23]
local FIELDS_AT_ONCE = 2000
local RESERVED = {owner = 1, sequence = 1, term = 1, placement = 1, worker = 1, since = 1, torn = 1,
  torn_reason = 1, outbox = 1, deployment = 1, acquirer = 1, attempt = 1, touched = 1, falls = 1, released = 1}

local stored = redis.call('HMGET', head, 'torn', 'owner', 'sequence', 'outbox', 'torn_reason')
if stored[1] then return {'TORN', stored[1], stored[5] or ''} end
if stored[2] ~= owner then return 'FENCED' end
local last = tonumber(stored[3] or '0')
if last == tonumber(sequence) then
  redis.call('HSET', head, 'touched', '1') -- so that a wait that follows speaks of this commit
  return 'ALREADY'
end
if last ~= tonumber(sequence) - 1 then return 'ROLLED_BACK' end

-- What came from other partitions is sent again if the store has lost it; so it may be done only while it lies here.
local internal = trims['internal']
if internal and #redis.call('XRANGE', base .. 'internal', internal, internal) == 0 then return 'ROLLED_BACK' end

local function invalid()
  local function text(value) return type(value) == 'string' end
  local function digits(value) return text(value) and string.find(value, '^%d+$') end
  if not digits(sequence) then return 'sequence' end
  for origin, position in pairs(positions) do
    if not (text(origin) and text(position)) then return 'positions' end
  end
  for key, fields in pairs(runs) do
    if not text(key) or type(fields) ~= 'table' or #fields == 0 or #fields % 2 == 1 then return 'runs' end
    for i = 1, #fields do if type(fields[i]) ~= 'string' then return 'runs' end end
  end
  for _, key in ipairs(fresh) do if not text(key) then return 'fresh' end end
  for key, keep in pairs(ended) do if not (text(key) and digits(keep)) then return 'ended' end end
  if not digits(outputs) or (outputs == '0') ~= (ARGV[2] == '') then return 'outputs' end
  if not digits(dead) or not digits(parked) then return 'dead' end
  if #ARGV ~= 2 + 2 * (tonumber(dead) + tonumber(parked)) then return 'dead' end
  for _, field in ipairs(unparked) do if not text(field) then return 'unparked' end end
  for field, time in pairs(due) do if not (text(field) and digits(time)) then return 'due' end end
  for _, field in ipairs(not_due) do if not text(field) then return 'due' end end
  for member, time in pairs(timers) do if not (text(member) and digits(time)) then return 'timers' end end
  for _, member in ipairs(no_timers) do if not text(member) then return 'timers' end end
  for _, reply in ipairs(replies) do
    if not (text(reply[1]) and text(reply[2]) and text(reply[3]) and type(reply[4]) == 'number') then return 'replies' end
  end
  if farewell[1] and not (text(farewell[1]) and text(farewell[2]) and type(farewell[3]) == 'number') then return 'farewell' end
  if not text(changed) then return 'changed' end
  for _, rows in ipairs({sealed, cut}) do
    for _, row in ipairs(rows) do
      if not (text(row[1]) and digits(row[2]) and text(row[3]) and text(row[4])) then return 'streams' end
    end
  end
  for key, number in pairs(streams_ended) do if not (text(key) and digits(number)) then return 'streams' end end
  for _, row in ipairs(callbacks) do
    for i = 1, 5 do if not text(row[i]) then return 'callbacks' end end
  end
  for origin, through in pairs(trims) do
    if not text(origin) or not (origin == 'inbox' or origin == 'internal' or origin == 'control' or string.find(origin, '^channel:.')) then return 'trims' end
    if not text(through) or not string.find(through, '^%d+%-%d+$') then return 'trims' end
  end
  for name, value in pairs(counters) do
    if not text(name) or RESERVED[name] or not digits(value) then return 'counters' end
  end
end

local function write_hash(key, fields)
  for first = 1, #fields, FIELDS_AT_ONCE do
    redis.call('HSET', key, unpack(fields, first, math.min(first + FIELDS_AT_ONCE - 1, #fields)))
  end
end

local function pairs_list(map)
  local list = {}
  for name, value in pairs(map) do
    list[#list + 1] = name
    list[#list + 1] = value
  end
  return list
end

local function apply_runs()
  for _, key in ipairs(fresh) do redis.call('UNLINK', base .. 'run:' .. key) end
  for key, fields in pairs(runs) do
    if #fields <= FIELDS_AT_ONCE then
      redis.call('HSET', base .. 'run:' .. key, unpack(fields))
    else
      write_hash(base .. 'run:' .. key, fields)
    end
  end
  for key, keep in pairs(ended) do redis.call('PEXPIRE', base .. 'run:' .. key, keep) end
end

local function apply_outputs()
  if outputs == '0' then return stored[4] or '0' end
  local before = tonumber(stored[4] or '0')
  redis.call('XADD', base .. 'outbox', string.format('%.0f-0', before + 1), 'count', outputs, 'blob', ARGV[2])
  return string.format('%.0f', before + tonumber(outputs))
end

local function apply_trims()
  for origin, through in pairs(trims) do
    local time, number = string.match(through, '^(%d+)%-(%d+)$')
    local next_id = time .. '-' .. string.format('%.0f', tonumber(number) + 1)
    redis.call('XTRIM', base .. origin, 'MINID', next_id)
    if string.sub(origin, 1, 8) == 'channel:' then make_room(base, string.sub(origin, 9)) end
  end
end

local function apply_parked(first)
  for _, field in ipairs(unparked) do
    redis.call('HDEL', base .. 'parked', field)
    redis.call('ZREM', base .. 'due', field)
  end
  for _, field in ipairs(not_due) do redis.call('ZREM', base .. 'due', field) end
  for i = first, #ARGV, 2 do redis.call('HSET', base .. 'parked', ARGV[i], ARGV[i + 1]) end
  for field, time in pairs(due) do redis.call('ZADD', base .. 'due', time, field) end
end

local function apply_timers()
  for _, member in ipairs(no_timers) do redis.call('ZREM', base .. 'timers', member) end
  for member, time in pairs(timers) do redis.call('ZADD', base .. 'timers', time, member) end
end

local function apply_streams()
  for _, key in ipairs(fresh) do
    if not runs[key] then -- it is forgotten
      streams_forget(base, key)
      forget_callbacks(base, key)
    end
  end
  streams_settle(base, sealed, cut)
  for key, number in pairs(streams_ended) do streams_end(base, key, number, ended[key]) end
end

local function close_all()
  local known = redis.call('HKEYS', base .. 'channels')
  for _, name in ipairs(known) do
    if string.sub(name, 1, 7) ~= 'closed:' then close_channel(base, name) end
  end
end

-- Nobody will process what lies in the inbox: those who wait for an answer get this one.
local function answer_rest()
  local keep, start = string.format('%.0f', farewell[3]), '-'
  repeat
    local entries = redis.call('XRANGE', base .. 'inbox', start, '+', 'COUNT', '100')
    for _, entry in ipairs(entries) do
      local named, flat = {}, entry[2]
      for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
      if named['reply'] and named['reply'] ~= '' then
        local first = redis.call('SET', base .. 'reply:' .. named['id'], farewell[2], 'NX', 'PX', keep)
        if first and farewell[1] ~= '' then redis.call('PUBLISH', named['reply'], named['id'] .. ' ' .. farewell[2]) end
      end
      start = '(' .. entry[1]
    end
  until #entries == 0
end

local function apply()
  write_hash(base .. 'positions', pairs_list(positions))
  apply_runs()
  local outbox = apply_outputs()
  local first_parked = 3 + 2 * tonumber(dead)
  for i = 3, first_parked - 1, 2 do add_letter(base, ARGV[i], ARGV[i + 1]) end
  if dead ~= '0' then trim_letters(base, tonumber(dead) + 100) end
  apply_parked(first_parked)
  apply_timers()
  apply_streams()
  for _, row in ipairs(callbacks) do add_callback(base, unpack(row, 1, 5)) end
  apply_trims()
  if counters['ended'] == '1' then close_all() end
  local fields = pairs_list(counters)
  fields[#fields + 1] = 'outbox'
  fields[#fields + 1] = outbox
  fields[#fields + 1] = 'sequence'
  fields[#fields + 1] = sequence
  write_hash(head, fields)
  for _, reply in ipairs(replies) do
    local keep = string.format('%.0f', reply[4])
    local first = redis.call('SET', base .. 'reply:' .. reply[1], reply[3], 'NX', 'PX', keep)
    if first and reply[2] ~= '' then redis.call('PUBLISH', reply[2], reply[1] .. ' ' .. reply[3]) end
  end
  if farewell[1] then answer_rest() end
  if changed ~= '' then redis.call('PUBLISH', base .. 'changes', changed) end
end

local wrong = invalid()
if wrong then return redis.error_reply('INVALID commit: ' .. wrong) end
redis.call('HSET', head, 'torn', sequence)
local applied, problem = pcall(apply)
if not applied then
  local reason = type(problem) == 'table' and problem.err or tostring(problem)
  redis.call('HSET', head, 'torn_reason', reason)
  return {'TORN', sequence, reason}
end
redis.call('HDEL', head, 'torn')
return 'APPLIED'
