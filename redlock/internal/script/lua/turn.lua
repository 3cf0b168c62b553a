-- Stands before acquire. turn(fence, waiter) returns for how many ms this node
-- leaves a lock that was released to those who stand in line before waiter, or to
-- all of them if waiter is nil or not there; 0 if it leaves it to nobody; and the
-- first of them. late are those before waiter who let their turn pass.
-- The key of the turns is the queue's name with "turn:" in it. It has the number of
-- turns, of 25 ms each, that there were at the release, and the place of the last
-- who stood there. It stays 500 ms longer, for whoever asks late.
-- All this is a hint: what forbids or breaks it must not break the grant.
local function turn(fence, waiter)
  local name, late = string.sub(fence, #FENCE + 1), {}
  local value = redis.pcall('GET', TURN .. name)
  local turns, last = string.match(type(value) == 'string' and value or '', '^(%d+):(.+)$')
  turns, last = tonumber(turns or ''), tonumber(last or '')
  if not turns or not last then return 0, nil, late end
  local line = redis.pcall('ZRANGE', QUEUE .. name, 0, 15, 'WITHSCORES')
  local left = redis.pcall('PTTL', TURN .. name)
  -- No release leaves more, unless the clock was set back since.
  if line.err or type(left) ~= 'number' or left > turns * 25 + 500 or turns > 16 then return 0, nil, late end
  local before = 0
  for i = 1, #line, 2 do
    if line[i] == waiter then break end
    before = before + 1
    if tonumber(line[i + 1]) <= last then late[#late + 1] = line[i] end
  end
  return left - 500 - (turns - before) * 25, line[1], late
end

