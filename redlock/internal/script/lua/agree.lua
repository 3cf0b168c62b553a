-- Agree with the other clients of a prefix on who the nodes are: see agreement.go.
-- agreed is the key, twice; mine is what this client says, or '' to look only; known
-- is what it has seen here and may replace; ttl is in ms.
-- Reply: {what stands here now or '', its pttl, INFO server or ''}. It is mine if it was
-- free, or known, or the same; and what is none of these is not kept for longer. Where the
-- memory is full nothing new can be written, but leases go on: then what was known, or the
-- same, is kept for longer as it is.
local function agree(agreed, _, mine, known, ttl)
  local info = redis.pcall('INFO', 'server')
  local there = redis.call('GET', agreed)
  if mine ~= '' and (not there or there == known or there == mine) then
    local lasting = string.format('%.0f', math.max(tonumber(ttl), redis.call('PTTL', agreed)))
    local set = redis.pcall('SET', agreed, mine, 'PX', lasting)
    if not set.err then
      there = mine
    elseif not there then
      return set
    else
      redis.call('PEXPIRE', agreed, lasting)
    end
  end
  return {there or '', redis.call('PTTL', agreed), type(info) == 'string' and info or ''}
end
