-- Who holds the lock?
-- lock and fence are the keys; waiters, if given, is how many of those who wait to
-- show at most.
-- Reply: {holder or '', pttl (-2: nobody holds it), count or ''}, and, if waiters is
-- given, an array of those who stand in the queue and are alive, in their order: of each
-- its waiter, the value that it asks for, and for how many ms it has waited
local function inspect(lock, fence, waiters)
  local holder = redis.call('GET', lock)
  if holder and #holder > 8388608 then -- more than a client takes, with all the rest
    return redis.error_reply(ERROR .. 'the lock has a value of ' .. #holder .. ' bytes, not one of lockkeeper')
  end
  local reply = {holder or '', redis.call('PTTL', lock), redis.call('HMGET', fence, 'count')[1] or ''}
  if waiters then
    reply[4] = {}
    -- What forbids or breaks the queue must not hide the lock.
    pcall(function()
      local queue, asked = queue_of(fence)
      local now = micros()
      for _, waiter in ipairs(redis.call('ZRANGE', queue, 0, waiters - 1)) do
        local request = asked_by(asked, waiter)
        if request and request.fresh >= now then
          table.insert(reply[4], {waiter, request.value, math.max(0, math.floor((now - request.position) / 1000))})
        end
      end
    end)
  end
  return reply
end
