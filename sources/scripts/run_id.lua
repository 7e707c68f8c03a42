-- Names this life of the server: another one after a restart, and on the replica that takes over.
local function run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
end
