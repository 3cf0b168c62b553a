-- Agree on a token and confirm the holder for longer, in one step: for a holder that has
-- little of its claim left.
-- lock and fence are the keys; value is mine; ttl and retention are in ms; least and
-- durable as in acquire.
-- Reply: the count, at least the token, of a holder that is confirmed
--        0                   as in commit
--        {1, seconds, run}   as in extend: prolonged, but this node does not vote
local function confirm(lock, fence, value, ttl, retention, least, durable, token)
  local count = commit(lock, fence, value, token, retention)
  if type(count) ~= 'number' or count == 0 then return count end
  local confirmed = extend(lock, fence, value, ttl, retention, least, durable)
  if confirmed ~= 1 then return confirmed end
  return count
end
