-- Confirm a holder for longer.
-- KEYS: 1 the lock, 2 its fence counter
-- ARGV: 1 my value, 2 ttl in ms, 3 the counter's retention in ms,
--       4 least uptime in s to vote (0: no guard), 5 a run known to be durable
-- Reply: 1                   confirmed
--        {1, seconds, run}   prolonged, but this node does not vote for so long
--        {2, run}            missing
--        {3}                 taken by another
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {3} end
local run, uptime = server()
if not holder then return {2, run} end
-- Never shorten: the answer of a longer extend may have been lost. Not PEXPIRE GT,
-- which Redis 6.2 lacks; -1 (no expiry) is below any ttl.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local least = tonumber(ARGV[4])
if least > 0 and uptime and uptime < least and run ~= ARGV[5] then
  return {1, least - uptime, run}
end
return 1
