-- Free the lock if it is mine.
-- lock and fence are the keys; value is mine; call is 1 if the next waiter shall be
-- told; anybody is 1 to free it whoever has it: an operator's force release.
-- Reply: 1 freed; 3 freed, and the next waiter was told; 0 it was free; 2 it is
-- another's
local function release(lock, fence, value, call, anybody)
  local holder = redis.call('GET', lock)
  if not holder then return 0 end
  if holder ~= value and anybody ~= '1' then return 2 end
  redis.call('DEL', lock)
  if call ~= '1' then return 1 end
  -- The queue of waiters has the counter's name with its own beginning. It is a
  -- hint: what forbids or breaks it must not break the release.
  local queue = 'lockkeeper:queue:' .. string.sub(fence, 18)
  for _ = 1, 100 do -- the dead are many at times, and this call stops the server
    local first = redis.pcall('ZRANGE', queue, 0, 0)[1]
    if not first then return 1 end
    local listeners = redis.pcall('PUBLISH', 'lockkeeper:wake:' .. first, lock)
    if type(listeners) ~= 'number' then return 1 end
    if listeners > 0 then
      -- The lock is left to each of the line in turn: see turn.lua.
      local line = redis.pcall('ZRANGE', queue, 0, 15, 'WITHSCORES')
      local turns = #line / 2
      if turns > 0 then
        redis.pcall('SET', 'lockkeeper:queue:turn:' .. string.sub(fence, 18), turns .. ':' .. line[#line], 'PX', turns * 25 + 500)
      end
      return 3
    end
    if redis.pcall('ZREM', queue, first) ~= 1 then return 1 end -- it has died, or is cut off
  end
  return 1 -- the next release goes on; who waits here is notified by the key itself
end
