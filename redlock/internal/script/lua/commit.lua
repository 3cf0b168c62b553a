-- Agree on a token: one node's part of phase 2.
-- lock and fence are the keys; value is mine; retention is in ms.
-- Reply: the count, at least the token; 0 if the lock is not mine, or the count
-- is not of the server's present run: such a node vouches for nothing.
local function commit(lock, fence, value, token, retention)
  if redis.call('GET', lock) ~= value then return 0 end
  local run = server(0)
  local counted = redis.call('HMGET', fence, 'count', 'run')
  if counted[2] ~= run then return 0 end
  local count = number(counted[1])
  if not count then
    return redis.error_reply(ERROR .. 'the fence count is not a number from 1 to 2^53')
  end
  token = tonumber(token)
  if count < token then
    count = token
    redis.call('HSET', fence, 'count', whole(count))
    redis.call('PEXPIRE', fence, retention)
  end
  return count
end
