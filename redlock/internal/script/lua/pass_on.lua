-- Stands before each script that passes a lock on, or queues for one, behind vote.lua.
-- A lock's queue is two keys: a sorted set of the waiters by their position, and a
-- hash with what each of them asked for. A position is the microsecond of this node's
-- clock at which the waiter's wait began. A member is the waiter, not the attempt: it
-- keeps its position when it hands a grant back.
local function queue_of(fence)
  local name = string.sub(fence, #FENCE + 1)
  return STANDING .. name, ASKED .. name
end

-- What a waiter asked for, or nil. fresh is until when it counts as alive, by this node's
-- clock: that decides who is passed over, never who holds. The rest stays text: to make
-- texts of numbers takes long.
local function asked_by(asked, waiter)
  local position, stamp, fresh, claim, push, channel, value =
    string.match(redis.call('HMGET', asked, waiter)[1] or '', '^(%d+) (%d+) (%d+) (%d+) (%d) (%S+) (.*)$')
  if not value then return nil end
  return {position = position, stamp = stamp, fresh = tonumber(fresh), claim = claim, push = push, channel = channel, value = value}
end

local function withdraw(queue, asked, waiter)
  redis.call('ZREM', queue, waiter)
  redis.call('HDEL', asked, waiter)
end

-- Whether anybody listens for the waiter's grants: else it has died, or is cut off. That is
-- asked before it is granted anything, not seen by what PUBLISH returns: a replica hands a
-- message on to listeners of its own, who are not counted here, and who would take the lock
-- for theirs although the next waiter has it. Where it may not be asked, somebody listens.
local function listens(request)
  if request.push == PUSH_UNCOUNTED then return true end
  return redis.pcall('PUBSUB', 'NUMSUB', request.channel)[2] ~= 0
end

-- Grant the free lock to a waiter that stands, and notify it.
local function grant(lock, fence, count, run, retention, waiter, request, silent)
  -- The count before the lock: a script stopped in between leaves a higher count and
  -- no lock. What is said of the grant later names the value, so that it is not taken
  -- for a word about another holder's.
  local token = whole(count)
  redis.call('HSET', fence, 'count', token, 'run', run,
    'granted', request.stamp .. ' ' .. request.position .. ' ' .. waiter .. ' ' .. request.value)
  redis.call('PEXPIRE', fence, retention)
  redis.call('SET', lock, request.value, 'PX', request.claim)
  if silent then return end
  -- The lock is set by now: no notification is ever ahead of its grant. It does not
  -- have the value: whoever knows that can free the lock. Where it may not be sent, the
  -- waiter finds its grant by asking.
  redis.pcall('PUBLISH', request.channel, waiter .. ' ' .. token .. ' ' .. request.stamp .. ' ' .. request.position)
end

-- A free lock with a live queue belongs to its head: grant it. counted is what F has
-- (count, run, standing); the node may vote, and L is free. me is the waiter that asks
-- right now, whose answer carries the grant. With only, that waiter or nobody gets it.
-- Returns the waiter with the grant; or nil and, if the lock stays free for a head that
-- can't be notified until it asks again, what that one asked for.
local function pass_on(lock, fence, counted, run, retention, me, only)
  if counted[3] ~= '1' then return nil end -- nobody stands: most locks never have a queue
  local count = number(counted[1])
  if count == false then return nil end
  count = following(count, counted[2], run)
  if count >= MAX_COUNT then return nil end
  local queue, asked = queue_of(fence)
  local now, left_to = micros(), nil
  for _ = 1, 100 do -- the dead are many at times, and this call stops the server
    local waiter = only or redis.call('ZRANGE', queue, 0, 0)[1]
    if not waiter then
      redis.call('HSET', fence, 'standing', '0')
      break
    end
    local request = asked_by(asked, waiter)
    local alive = request and (waiter == me or request.fresh >= now)
    if alive and request.push == PUSH_NONE and waiter ~= me then
      left_to = request
      break
    end
    withdraw(queue, asked, waiter)
    if alive and (waiter == me or listens(request)) then
      grant(lock, fence, count, run, retention, waiter, request, waiter == me)
      return waiter
    end
    if only then break end
  end
  return nil, left_to
end

-- Bring the count of a node that lags up to the token of a holder that leaves, as a commit
-- right before would, so that the next one finds the nodes' counts alike and needs no
-- second round. counted is what F has.
local function bring_up(fence, counted, token, retention)
  local count = number(counted[1])
  if not count or count >= tonumber(token) or counted[2] ~= server(0) then return end
  redis.call('HSET', fence, 'count', token)
  redis.call('PEXPIRE', fence, retention)
  counted[1] = token
end

-- Pass the lock on, which is free, unless this node may have forgotten who holds it. The
-- queue decides nothing but who is next: what forbids or breaks it must not break what
-- the caller has done. token is that of the holder who has just left, or ''. Returns whether
-- somebody has it now.
local function pass_on_freed(lock, fence, retention, least, durable, token)
  local ok, waiter = pcall(function()
    local counted = redis.call('HMGET', fence, 'count', 'run', 'standing')
    if token ~= '' and token ~= counted[1] then bring_up(fence, counted, token, retention) end
    if counted[3] ~= '1' then return nil end
    local run, _, short = vote(least, durable)
    return not short and pass_on(lock, fence, counted, run, retention)
  end)
  return ok and waiter
end

