-- Stand in the queue of those who wait for the lock: a hint for who asks next,
-- which decides nothing.
-- lock and queue (sorted set of waiters) are the keys; id is the waiter's; place is
-- the one that it had here before, or ''; the queue is kept for so many ms.
-- Reply: {waiters before me, my place, pttl of the lock}
local function wait(lock, queue, id, place, keep)
  place = redis.call('ZSCORE', queue, id) or place
  if place == '' then
    local last = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')
    place = string.format('%.0f', (tonumber(last[2]) or 0) + 1)
  end
  redis.call('ZADD', queue, 'NX', place, id)
  redis.call('PEXPIRE', queue, keep)
  return {redis.call('ZRANK', queue, id), place, redis.call('PTTL', lock)}
end
