-- Leave the queue of those who wait for the lock, without it.
-- lock and queue are the keys; id is the waiter's.
-- Reply: 1; 0 if it was not there
local function leave(lock, queue, id)
  return redis.call('ZREM', queue, id)
end
