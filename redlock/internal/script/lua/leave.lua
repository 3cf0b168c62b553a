-- Wait no more: take my request out of the queue, and free the lock if it is mine.
-- lock and fence are the keys; value is mine; retention, least and durable as in
-- acquire; waiter is this wait, whose request goes whatever its value: no attempt of it
-- follows.
-- Reply: as release
local function leave(lock, fence, value, retention, least, durable, waiter)
  local queue, asked = queue_of(fence)
  withdraw(queue, asked, waiter)
  return release(lock, fence, value, retention, least, durable, '', '')
end
