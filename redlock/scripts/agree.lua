-- Agree with the other clients of a prefix on who the nodes are: see agreement.go.
-- agreed is the key, twice; mine is what this client says, or '' to look only; known
-- is what it has seen here and may replace; ttl is in ms.
-- Reply: {what stands here now or '', its pttl, INFO server or ''}. It is mine if it was
-- free, or known, or the same; and what is not mine is not kept for longer.
local function agree(agreed, _, mine, known, ttl)
  local info = redis.pcall('INFO', 'server')
  local there = redis.call('GET', agreed)
  if mine ~= '' and (not there or there == known or there == mine) then
    redis.call('SET', agreed, mine, 'PX', string.format('%.0f', math.max(tonumber(ttl), redis.call('PTTL', agreed))))
    there = mine
  end
  return {there or '', redis.call('PTTL', agreed), type(info) == 'string' and info or ''}
end
