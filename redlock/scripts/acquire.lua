-- Vote for a holder: one node's part of phase 1.
-- KEYS: 1 the lock (string), 2 its fence counter (hash: count, run)
-- ARGV: 1 my value, 2 ttl in ms, 3 the counter's retention in ms,
--       4 least uptime in s to vote (0: no guard), 5 a run known to be durable
-- Reply: count            granted, under this count
--        -count           granted by a node that tells no run: the guard can't work
--        {0, holder, pttl}        refused, held
--        {1, seconds, run}        refused, may have forgotten: votes in so many seconds
-- All checks come before the first write, and the counter is written before the
-- lock: a script stopped in between leaves a higher count and no lock.
local max = 9007199254740992 -- 2^53, where Lua's numbers stop being exact
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return {0, holder, redis.call('PTTL', KEYS[1])}
end

local run, uptime = server()
local sign = 1
if run == '-' or not uptime then sign = -1 end

local fence = redis.call('HMGET', KEYS[2], 'count', 'run')
local count = fence[1]
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

local least = tonumber(ARGV[4])
if least > 0 and uptime and uptime < least and run ~= ARGV[5] then
  return {1, least - uptime, run}
end

if count and fence[2] == run then
  count = count + 1
else -- never counted here, or before a restart: start above everything ever issued
  local now = redis.call('TIME')
  count = math.max((count or 0) + 1, tonumber(now[1]) * 1000000 + tonumber(now[2]))
end
if count >= max then
  return redis.error_reply('ERR lockkeeper: the fence count has reached 2^53')
end
redis.call('HSET', KEYS[2], 'count', string.format('%.0f', count), 'run', run)
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return sign * count
