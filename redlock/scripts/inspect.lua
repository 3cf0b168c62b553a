-- Who holds the lock?
-- KEYS: 1 the lock, 2 its fence counter
-- Reply: {holder or '', pttl, count or ''}
local holder = redis.call('GET', KEYS[1])
return {holder or '', redis.call('PTTL', KEYS[1]), redis.call('HMGET', KEYS[2], 'count')[1] or ''}
