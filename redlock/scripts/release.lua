-- Free the lock if it is mine.
-- lock and fence are the keys; value is mine, or "*" for anybody's: an operator's
-- force release.
-- Reply: 1 freed; 0 it was free; 2 it is another's
local function release(lock, fence, value)
  local holder = redis.call('GET', lock)
  if not holder then return 0 end
  if holder ~= value and value ~= '*' then return 2 end
  redis.call('DEL', lock)
  return 1
end
