-- Confirm a holder for longer.
-- lock and fence are the keys; value is mine; ttl and retention are in ms; least and
-- durable as in acquire. exact, if given: the lock ends when ttl is over, also if it
-- would last longer. Only a holder that gives its lease up asks for that.
-- Reply: 1                   confirmed
--        {1, seconds, run}   prolonged, but this node does not vote for so long
--        {2, run}            missing
--        {3}                 taken by another
local function extend(lock, fence, value, ttl, retention, least, durable, exact)
  local holder = redis.call('GET', lock)
  if holder and holder ~= value then return {3} end
  local run, _, short = vote(least, durable)
  if not holder then return {2, run} end
  -- Never shorten a lease: the answer of a longer extend may have been lost. Not PEXPIRE
  -- GT, which Redis 6.2 lacks; -1 (no expiry) is below any ttl.
  if exact or redis.call('PTTL', lock) < tonumber(ttl) then
    redis.call('PEXPIRE', lock, ttl)
  end
  redis.call('PEXPIRE', fence, retention)
  if short then return {1, short, run} end
  return 1
end
