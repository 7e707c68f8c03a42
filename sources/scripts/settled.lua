-- In a cluster, a slot that is on its way to another server has some of its keys here and some there, and a script
-- sees only those here. So it looks first, by two keys that never exist, and writes nothing while that is so.
local function moving(base)
  local probe = redis.pcall('EXISTS', base .. '?', base .. '??')
  return type(probe) == 'table' and probe.err
end
local MOVING = 'TRYAGAIN its slot is being moved to another server'
