-- Whether an entry of the inbox is done: the epoch that it is in is committed. `position` is of the last one that is.
local function inbox_order(entry)
  local time, number = string.match(entry, '^(%d+)%-(%d+)$')
  return tonumber(time) or 0, tonumber(number) or 0
end

local function is_done(entry, position)
  local time, number = inbox_order(entry)
  local done_time, done_number = inbox_order(position)
  return time < done_time or (time == done_time and number <= done_number)
end
