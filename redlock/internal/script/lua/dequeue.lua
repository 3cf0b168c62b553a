-- Leave the old queue of those who wait for the lock, without it.
-- lock and queue are the keys; id is the waiter's; place, if any, is the one that it
-- had: it may wait anew by now.
-- Reply: 1; 0 if it was not there
local function dequeue(lock, queue, id, place)
  local rank = redis.call('ZRANK', queue, id)
  if not rank then return 0 end
  if place and tonumber(redis.call('ZRANGE', queue, rank, rank, 'WITHSCORES')[2]) ~= tonumber(place) then return 0 end
  return redis.call('ZREM', queue, id)
end
