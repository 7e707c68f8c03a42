#!lua flags=allow-oom
-- A person takes dead letters out. KEYS[1] head; ARGV: their entries. Answers how many were still there.
-- include: settled.lua
-- include: letters.lua
local base = string.sub(KEYS[1], 1, -5)
if moving(base) then return redis.error_reply(MOVING) end
local count = 0
for i = 1, #ARGV do
  local entry = redis.call('XRANGE', base .. 'dead', ARGV[i], ARGV[i])[1]
  if entry then
    remove_letter(base, entry)
    count = count + 1
  end
end
return count
