-- Vote for a holder: one node's part of phase 1.
-- lock (string) and fence (hash: count, run) are the keys; value is mine; ttl and
-- retention (of the counter) are in ms; least is the uptime in s that a vote needs
-- (0: no guard), durable a run that needs none; waiter, if any, stands in the queue
-- of those who wait for the lock.
-- Reply: count            granted, under this count
--        -count           granted by a node that tells no run: the guard can't work
--        {0, holder, pttl}        refused, held; or left to the first who waits
--        {1, seconds, run}        refused, may have forgotten: votes in so many seconds
-- All checks come before the first write, and the counter is written before the
-- lock: a script stopped in between leaves a higher count and no lock.
local function acquire(lock, fence, value, ttl, retention, least, durable, waiter)
  local max = 9007199254740992 -- 2^53, where Lua's numbers stop being exact
  local holder = redis.call('GET', lock)
  if holder and holder ~= value then
    if #holder > 512 then holder = string.sub(holder, 1, 512) .. '...' end -- not lockkeeper's
    return {0, holder, redis.call('PTTL', lock)}
  end

  local run, uptime = server()
  local sign = 1
  if run == '-' or not uptime then sign = -1 end

  local counted = redis.call('HMGET', fence, 'count', 'run', 'line')
  local count = counted[1]
  if count then
    local digits = string.match(count, '^%d+$')
    count = digits and tonumber(digits)
    if not count or count < 1 or count >= max then
      return redis.error_reply('ERR lockkeeper: the fence count is not a number from 1 to 2^53')
    end
  end
  if holder then -- my own request, applied before and seen again
    if not count then
      return redis.error_reply('ERR lockkeeper: the fence count is gone')
    end
    return sign * count
  end

  least = tonumber(least)
  if least > 0 and uptime and uptime < least and run ~= durable then
    return {1, least - uptime, run}
  end

  local late = {}
  if counted[3] then -- there was a line of waiters
    local left, first
    left, first, late = turn(fence, waiter)
    if left > 0 then return {0, first, left} end
  end

  if count and counted[2] == run then
    count = count + 1
  else -- never counted here, or before a restart: start above everything ever issued
    local now = redis.call('TIME')
    count = math.max((count or 0) + 1, tonumber(now[1]) * 1000000 + tonumber(now[2]))
  end
  if count >= max then
    return redis.error_reply('ERR lockkeeper: the fence count has reached 2^53')
  end
  redis.call('HSET', fence, 'count', string.format('%.0f', count), 'run', run)
  redis.call('PEXPIRE', fence, retention)
  redis.call('SET', lock, value, 'PX', ttl)
  -- The queue is a hint: what forbids or breaks it must not break the grant.
  late[#late + 1] = waiter
  for _, id in ipairs(late) do
    redis.pcall('ZREM', 'lockkeeper:queue:' .. string.sub(fence, 18), id)
  end
  return sign * count
end
