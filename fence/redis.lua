-- KEYS[1]: the largest token; the other KEYS: those of the commands.
-- ARGV[1]: the token of this write. Then each command: how many words, and the words.
local token, latest = ARGV[1], redis.call('GET', KEYS[1])
if latest then
  if not string.find(latest, '^%d+$') then
    return redis.error_reply('FENCE ' .. KEYS[1] .. ' holds no token')
  end
  -- Compared as text: Lua's numbers are exact only up to 2^53.
  if #latest > #token or #latest == #token and latest > token then
    return {0, latest}
  end
end
redis.call('SET', KEYS[1], token)
local replies, i = {}, 2
while i <= #ARGV do
  local words = tonumber(ARGV[i])
  -- nil would end the list.
  replies[#replies + 1] = redis.call(unpack(ARGV, i + 1, i + words)) or ''
  i = i + 1 + words
end
return {1, replies}
