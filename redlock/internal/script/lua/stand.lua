-- Stand in the queue of those who wait for the lock, or ask again for who does.
-- lock and fence are the keys; value is mine, new for each attempt; claim, for how long
-- a grant holds, and retention are in ms; least and durable as in acquire. waiter is
-- this wait, the same in all its attempts; waited is since when it waits, in
-- microseconds, when this was sent: the request's stamp. push says how the waiter is
-- notified on channel. take is 1 to grant a free lock to the head of the queue. instead
-- is a value of mine to hand back, to the waiter to if it stands here.
-- Reply: {1, count, stamp, position}   granted; count is negative as in acquire
--        {0, rank, holder or '', pttl, waiter or '', position, seconds, run}
--            standing behind rank others. If the holder was granted the lock from the
--            queue, its waiter and position, else '' and 0. The node votes in so many
--            seconds (0: now).
-- The stamp is that of the request which was granted, never that of this one: validity
-- counts from before that one was sent.
local function stand(lock, fence, value, claim, retention, least, durable, waiter, waited, push, channel, take, instead, to)
  local holder = redis.call('GET', lock)
  local run, sign, short = vote(least, durable)
  local counted = redis.call('HMGET', fence, 'count', 'run', 'standing', 'granted')
  local count = number(counted[1])
  if count == false then return redis.error_reply(ERROR .. 'the fence count is not a number from 1 to 2^53') end
  -- What is known of the grant of a value; 0 is the oldest stamp there can be.
  local function granted(of)
    local stamp, position, to, whose = string.match(redis.call('HMGET', fence, 'granted')[1] or '', '^(%d+) (%d+) (%S+) (.*)$')
    if whose ~= of then return 0, 0, '' end
    return tonumber(stamp), tonumber(position), to
  end
  local function mine()
    local n = number(redis.call('HMGET', fence, 'count')[1])
    if not n then return redis.error_reply(ERROR .. 'the fence count is gone') end
    local stamp, position = granted(value)
    return {1, sign * n, stamp, position}
  end
  if holder == value then return mine() end -- its expiry stays as it is

  if not (holder or short) and take ~= '0' and counted[3] ~= '1' then
    -- Nobody stands: what is granted at once need not queue. Most locks are free.
    local n = following(count, counted[2], run)
    if n < MAX_COUNT then
      local position = micros() - waited
      grant(lock, fence, n, run, retention, waiter,
        {position = whole(position), stamp = waited, value = value, claim = claim}, true)
      return {1, sign * n, tonumber(waited), position}
    end
  end

  local _, had -- the position of what is handed back
  if holder and holder == instead then
    _, had = granted(holder)
    redis.call('DEL', lock)
    holder = false
    -- To one waiter or to nobody: passed on to the head, a node's vote would go round
    -- among waiters none of whom gets a quorum.
    if to ~= '' and to ~= waiter and not short then
      pass_on(lock, fence, counted, run, retention, nil, to)
      counted = redis.call('HMGET', fence, 'count', 'run', 'standing')
      holder = redis.call('GET', lock)
    end
  end

  local queue, asked = queue_of(fence)
  local now = micros()
  local before = asked_by(asked, waiter)
  local position = now - waited
  if before then position = math.min(position, tonumber(before.position)) end
  if had and had > 0 then position = math.min(position, had) end
  -- A late request changes nothing: a stamp belongs to a sending of its own value. Nor
  -- does its answer carry a grant of the request that stands.
  local late = before and tonumber(waited) < tonumber(before.stamp)
  if not late then
    local fresh = math.ceil(claim * 1000 * FRESH)
    local keep = whole(math.max(KEEP, math.ceil(fresh / 1000))) -- as long as anybody's freshness
    redis.call('ZADD', queue, whole(position), waiter)
    redis.call('PEXPIRE', queue, keep)
    if not before then
      -- Who may not pass on or leave must not stand, and asks for votes: it fails here,
      -- without a request, so that the lock is left to nobody.
      redis.call('ZRANGE', queue, 0, 0)
      withdraw(queue, asked, '')
    end
    redis.call('HSET', asked, waiter, table.concat({whole(position), waited, whole(now + fresh), claim, push, channel, value}, ' '))
    redis.call('PEXPIRE', asked, keep)
    if counted[3] ~= '1' then -- so that other scripts need not look for a queue
      redis.call('HSET', fence, 'standing', '1')
      counted[3] = '1'
      if not count then redis.call('PEXPIRE', fence, retention) end
    end
  end
  if not holder and take == '1' and not short then
    pass_on(lock, fence, counted, run, retention, not late and waiter or nil)
    holder = redis.call('GET', lock)
    if holder == value then return mine() end
  end

  local whose, since = '', 0
  if holder then
    local _, position, to = granted(holder)
    whose, since = to, position
    if #holder > 512 then holder = string.sub(holder, 1, 512) .. '...' end -- not lockkeeper's
  end
  local rank = redis.pcall('ZRANK', queue, waiter) -- the request stands whatever that says
  return {0, type(rank) == 'number' and rank or 0, holder or '', redis.call('PTTL', lock), whose, since, short or 0, run}
end

