-- Give a confirmed holder's lock back to a node that lost it.
-- KEYS: 1 the lock, 2 its fence counter
-- ARGV: 1 my value, 2 ttl in ms, 3 the counter's retention in ms, 4 my token,
--       5 the run that answered "missing"
-- Reply: 1 repaired; 0 not: another run, another holder, or a newer token here
if redis.call('GET', KEYS[1]) then return 0 end
local run = server()
if run ~= ARGV[5] then return 0 end
local count = redis.call('HMGET', KEYS[2], 'count')[1]
if count then
  local digits = string.match(count, '^%d+$')
  count = digits and tonumber(digits)
  -- Without this test a late repair would give one token to two holders.
  if not count or count > tonumber(ARGV[4]) then return 0 end
end
-- The run stays as it is, unset if nothing was counted: a repair must not vouch
-- for what this node forgot.
redis.call('HSET', KEYS[2], 'count', ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
