-- Stand in the queue of those who wait for the lock: a hint for who asks next,
-- which decides nothing.
-- lock and queue (sorted set of waiters) are the keys; id is the waiter's; place is
-- the one that it had here before in this wait, or '' to come as the last; the queue
-- is kept for so many ms.
-- Reply: {waiters before me, my place, pttl of the lock, 1 if the counter was written}
local function wait(lock, queue, id, place, keep)
  if place == '' then
    redis.call('ZREM', queue, id) -- of an earlier wait
    local last = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')
    local now = redis.call('TIME') -- no place is given twice, also if the queue was empty meanwhile
    place = string.format('%.0f', math.max((tonumber(last[2]) or 0) + 1, now[1] * 1000000 + now[2]))
  end
  redis.call('ZADD', queue, place, id)
  redis.call('PEXPIRE', queue, keep)
  -- Tell acquire that there are lines for this lock: most never have one.
  local fence = FENCE .. string.sub(queue, #QUEUE + 1)
  local counted = redis.call('HMGET', fence, 'count', 'line')
  local first = counted[1] and not counted[2]
  if first then redis.call('HSET', fence, 'line', 1) end
  return {redis.call('ZRANK', queue, id), place, redis.call('PTTL', lock), first and 1 or 0}
end
