-- Vote for a holder: one node's part of phase 1.
-- lock (string) and fence (hash: count, run) are the keys; value is mine; ttl and
-- retention (of the counter) are in ms; least is the uptime in s that a vote needs
-- (0: no guard), durable a run that needs none.
-- Reply: count            granted, under this count
--        -count           granted by a node that tells no run: the guard can't work
--        {0, holder, pttl}        refused, held; or passed on to the first who stands
--        {1, seconds, run}        refused, may have forgotten: votes in so many seconds
-- All checks come before the first write, and the counter is written before the
-- lock: a script stopped in between leaves a higher count and no lock.
local function acquire(lock, fence, value, ttl, retention, least, durable)
  local holder = redis.call('GET', lock)
  local function held(by)
    if #by > 512 then by = string.sub(by, 1, 512) .. '...' end -- not lockkeeper's
    return {0, by, redis.call('PTTL', lock)}
  end
  if holder and holder ~= value then return held(holder) end

  local run, sign, short = vote(least, durable)
  local counted = redis.call('HMGET', fence, 'count', 'run', 'standing')
  local count = number(counted[1])
  if count == false then
    return redis.error_reply(ERROR .. 'the fence count is not a number from 1 to 2^53')
  end
  if holder then -- my own request, applied before and seen again
    if not count then
      return redis.error_reply(ERROR .. 'the fence count is gone')
    end
    return sign * count
  end
  if short then return {1, short, run} end

  if counted[3] == '1' then
    -- It belongs to those who stand. What forbids or breaks their queue must not keep
    -- the lock from everybody.
    local ok, first, left_to = pcall(pass_on, lock, fence, counted, run, retention)
    if ok and first then return held(redis.call('GET', lock)) end
    if ok and left_to then return {0, left_to.value, math.ceil((left_to.fresh - micros()) / 1000)} end
  end

  count = following(count, counted[2], run)
  if count >= MAX_COUNT then
    return redis.error_reply(ERROR .. 'the fence count has reached 2^53')
  end
  redis.call('HSET', fence, 'count', whole(count), 'run', run)
  redis.call('PEXPIRE', fence, retention)
  redis.call('SET', lock, value, 'PX', ttl)
  return sign * count
end
