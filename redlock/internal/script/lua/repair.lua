-- Give a confirmed holder's lock back to a node that lost it.
-- lock and fence are the keys; value and token are mine; ttl and retention are in
-- ms; seen is the run that answered "missing".
-- Reply: 1 repaired; 0 not: another run, another holder, or a count that is no number
local function repair(lock, fence, value, ttl, retention, token, seen)
  if redis.call('GET', lock) then return 0 end
  local run = server(0)
  if run ~= seen then return 0 end
  local count = redis.call('HMGET', fence, 'count')[1]
  if count then
    local digits = string.match(count, '^%d+$')
    if not digits then return 0 end
    -- A count never falls: others were granted here since, if only to let go again.
    -- Lowered, it would be given to two holders.
    if tonumber(digits) > tonumber(token) then token = nil end
  end
  -- The run stays as it is, unset if nothing was counted: a repair must not vouch
  -- for what this node forgot.
  if token then redis.call('HSET', fence, 'count', token) end
  redis.call('PEXPIRE', fence, retention)
  redis.call('SET', lock, value, 'PX', ttl)
  return 1
end
