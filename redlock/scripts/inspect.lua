-- Who holds the lock?
-- lock and fence are the keys.
-- Reply: {holder or '', pttl (-2: nobody holds it), count or ''}
local function inspect(lock, fence)
  local holder = redis.call('GET', lock)
  return {holder or '', redis.call('PTTL', lock), redis.call('HMGET', fence, 'count')[1] or ''}
end
