-- Free the lock if it is mine, and pass it on.
-- lock and fence are the keys; value is mine; retention, least and durable are for the
-- next holder, as in acquire; waiter is the wait that led to this hold, or '': its
-- request is out of the queue, if it has this value. token is mine, or '' if I have none:
-- where the lock is mine, the count is at least that afterwards, as by a commit. anybody is
-- 1 to free the lock whoever has it: an operator's force release.
-- Reply: 1 freed; 3 freed, and passed on to the first who stands; 0 it was free; 2 it is
-- another's
local function release(lock, fence, value, retention, least, durable, waiter, token, anybody)
  local holder = redis.call('GET', lock)
  if waiter ~= '' then
    -- A late grant of this value would hold for nobody. What forbids or breaks the queue
    -- must not break the release.
    pcall(function()
      local queue, asked = queue_of(fence)
      local request = asked_by(asked, waiter)
      if request and request.value == value then withdraw(queue, asked, waiter) end
    end)
  end
  if holder and holder ~= value and anybody ~= '1' then return 2 end
  if holder then redis.call('DEL', lock) end
  -- Also if it was free: a lock that expired belongs to who stands as well.
  local passed = pass_on_freed(lock, fence, retention, least, durable, holder == value and token or '')
  if not holder then return 0 end
  if passed then return 3 end
  return 1
end
