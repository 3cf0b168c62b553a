-- Agree on a token: one node's part of phase 2.
-- KEYS: 1 the lock, 2 its fence counter
-- ARGV: 1 my value, 2 the token, 3 the counter's retention in ms
-- Reply: the count, at least the token; 0 if the lock is not mine, or the count
-- is not of the server's present run: such a node vouches for nothing.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local run = server()
local fence = redis.call('HMGET', KEYS[2], 'count', 'run')
if fence[2] ~= run then return 0 end
local digits = fence[1] and string.match(fence[1], '^%d+$')
local count = digits and tonumber(digits)
if not count or count >= 9007199254740992 then
  return redis.error_reply('ERR lockkeeper: the fence count is not a number from 1 to 2^53')
end
local token = tonumber(ARGV[2])
if count < token then
  count = token
  redis.call('HSET', KEYS[2], 'count', string.format('%.0f', count))
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return count
