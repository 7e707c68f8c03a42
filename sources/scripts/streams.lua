-- Streams of runs; see run_streams.py, which says the same in Python. `streams:<run>` is a hash: number of the run,
-- `ended`, `s:<name>` -> JSON of what is open in that stream (place -> [token, first id, number of
-- the last value]), `i:<node>` -> incarnation of
-- the process that has written last. `streaming` is the set of runs with something open.
local STREAM_KEPT = '10000'

local function stream_told(base, run, name)
  redis.call('PUBLISH', base .. 'streamed', cjson.encode({run, name}))
end

local function stream_open(base, run, name)
  local text = redis.call('HGET', base .. 'streams:' .. run, 's:' .. name)
  return (text and text ~= '{}') and cjson.decode(text) or {}
end

local function stream_keep_open(base, run, name, open)
  redis.call('HSET', base .. 'streams:' .. run, 's:' .. name, next(open) and cjson.encode(open) or '{}')
  if next(open) then redis.call('SADD', base .. 'streaming', run) end
end

local function stream_order(id)
  local time, number = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(time), tonumber(number)
end

local function stream_before(one, other)
  local time, number = stream_order(one)
  local other_time, other_number = stream_order(other)
  return time < other_time or (time == other_time and number < other_number)
end

-- What is open at a place is void: its values go, a reset says from where on, what others have written comes again.
local function stream_cut(base, run, name, open, place)
  local attempt, key = open[place], base .. 'stream:' .. run .. ':' .. name
  if not attempt then return end
  open[place] = nil
  local behind = redis.call('XRANGE', key, attempt[2], '+')
  for _, entry in ipairs(behind) do redis.call('XDEL', key, entry[1]) end
  redis.call('XADD', key, '*', 'r', attempt[2])
  local moved = {}
  for _, entry in ipairs(behind) do
    local named = {}
    for i = 1, #entry[2], 2 do named[entry[2][i]] = entry[2][i + 1] end
    if named['p'] and named['p'] ~= place then -- resets among them are within what this one says
      local id = redis.call('XADD', key, '*', unpack(entry[2]))
      moved[named['p']] = moved[named['p']] or id
    end
  end
  for other, was in pairs(open) do
    if moved[other] and not stream_before(was[2], attempt[2]) then was[2] = moved[other] end
  end
  stream_told(base, run, name)
end

local function stream_names(base, run)
  local names = {}
  for _, field in ipairs(redis.call('HKEYS', base .. 'streams:' .. run)) do
    if string.sub(field, 1, 2) == 's:' then names[#names + 1] = string.sub(field, 3) end
  end
  return names
end

local function stream_places(open)
  local places = {}
  for place, _ in pairs(open) do places[#places + 1] = place end
  table.sort(places)
  return places
end

local function stream_cut_all_of(base, run)
  for _, name in ipairs(stream_names(base, run)) do
    local open = stream_open(base, run, name)
    if next(open) then
      for _, place in ipairs(stream_places(open)) do stream_cut(base, run, name, open, place) end
      stream_keep_open(base, run, name, open)
    end
  end
end

local function streams_forget(base, run)
  for _, name in ipairs(stream_names(base, run)) do redis.call('UNLINK', base .. 'stream:' .. run .. ':' .. name) end
  redis.call('UNLINK', base .. 'streams:' .. run)
  redis.call('SREM', base .. 'streaming', run)
end

-- A commit: [run, number, name, place] of each attempt that stays, and of each that does not.
local function streams_settle(base, sealed, cut)
  local function each(rows, settle)
    for _, row in ipairs(rows) do
      local run, number, name, place = row[1], row[2], row[3], row[4]
      if redis.call('HGET', base .. 'streams:' .. run, 'number') == number then
        local open = stream_open(base, run, name)
        settle(run, name, open, place)
        stream_keep_open(base, run, name, open)
      end
    end
  end
  each(sealed, function(_, _, open, place) open[place] = nil end)
  each(cut, function(run, name, open, place) stream_cut(base, run, name, open, place) end)
end

-- The run has ended: all of them end, and go after so many milliseconds (or never).
local function streams_end(base, run, number, keep)
  local hash = base .. 'streams:' .. run
  if redis.call('HGET', hash, 'number') ~= number then return end
  local outcome = redis.call('HGET', base .. 'run:' .. run, 'status') or ''
  stream_cut_all_of(base, run)
  for _, name in ipairs(stream_names(base, run)) do
    local key = base .. 'stream:' .. run .. ':' .. name
    redis.call('XADD', key, '*', 'e', outcome)
    if keep then redis.call('PEXPIRE', key, keep) end
    stream_told(base, run, name)
  end
  redis.call('HSET', hash, 'ended', '1')
  redis.call('SREM', base .. 'streaming', run) -- nothing of it can be open any more
  if keep then redis.call('PEXPIRE', hash, keep) end
end

-- A new owner: what is open was written on behalf of another one.
local function streams_cut_all(base)
  for _, run in ipairs(redis.call('SMEMBERS', base .. 'streaming')) do stream_cut_all_of(base, run) end
  redis.call('UNLINK', base .. 'streaming')
end

local function stream_append(base, run, number, name, place, node, incarnation, token, count, value)
  local hash, key = base .. 'streams:' .. run, base .. 'stream:' .. run .. ':' .. name
  local known = redis.call('HMGET', hash, 'number', 'ended', 'i:' .. node)
  local void = false
  if known[1] and tonumber(known[1]) > tonumber(number) then return 'STALE' end
  if known[1] and tonumber(known[1]) < tonumber(number) then
    for _, old in ipairs(stream_names(base, run)) do
      local former = base .. 'stream:' .. run .. ':' .. old
      redis.call('UNLINK', former)
      if old == name then void = true end
    end
    redis.call('UNLINK', hash)
    known = {false, false, false}
  end
  if known[2] then return 'ENDED' end
  if known[3] and tonumber(known[3]) > tonumber(incarnation) then return 'STALE' end
  redis.call('HSET', hash, 'number', number, 'i:' .. node, incarnation)
  if void then redis.call('XADD', key, '*', 'r', '0-0') end
  local open = stream_open(base, run, name)
  if open[place] and open[place][1] ~= token then stream_cut(base, run, name, open, place) end
  if open[place] and tonumber(open[place][3]) >= tonumber(count) then return 'APPENDED' end
  local id = redis.call('XADD', key, 'MAXLEN', STREAM_KEPT, '*', 'v', value, 'p', place)
  open[place] = {token, open[place] and open[place][2] or id, count}
  stream_keep_open(base, run, name, open)
  stream_told(base, run, name)
  return 'APPENDED'
end
