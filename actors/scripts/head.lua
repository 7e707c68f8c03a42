#!lua flags=no-writes
-- A partition as it is. KEYS[1] head. Answers the fields of the head, and its positions.
return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', string.sub(KEYS[1], 1, -5) .. 'positions')}
