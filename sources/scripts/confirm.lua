#!lua flags=allow-oom
-- Write a text again as it is, so that a wait that follows speaks of it. KEYS[1] the text. Answers 1; 0 if there is none.
local text = redis.call('GET', KEYS[1])
if not text then return 0 end
redis.call('SET', KEYS[1], text, 'KEEPTTL')
return 1
