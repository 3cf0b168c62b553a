-- Who holds the lock?
-- lock and fence are the keys; waiters, if given, is how many of those who wait to
-- show at most.
-- Reply: {holder or '', pttl (-2: nobody holds it), count or ''}, and, if waiters is
-- given, an array of them in their order
local function inspect(lock, fence, waiters)
  local holder = redis.call('GET', lock)
  if holder and #holder > 8388608 then -- more than a client takes, with all the rest
    return redis.error_reply(ERROR .. 'the lock has a value of ' .. #holder .. ' bytes, not one of lockkeeper')
  end
  local reply = {holder or '', redis.call('PTTL', lock), redis.call('HMGET', fence, 'count')[1] or ''}
  if waiters then
    -- The queue is a hint: what forbids or breaks it must not hide the lock.
    local queue = redis.pcall('ZRANGE', QUEUE .. string.sub(fence, #FENCE + 1), 0, waiters - 1)
    reply[4] = queue.err and {} or queue
  end
  return reply
end
