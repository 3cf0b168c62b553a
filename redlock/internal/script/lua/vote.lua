-- Stands before each script that votes or counts.
local function whole(n) return string.format('%.0f', n) end

local function micros()
  local now = redis.call('TIME')
  return now[1] * 1000000 + now[2]
end

-- The run in which this node is, and -1 as sign where it does not tell, so that the
-- guard can't work. If the node may have forgotten, also in how many seconds it votes.
local function vote(least, durable)
  least = tonumber(least)
  local run, uptime = server(least)
  local sign = 1
  if run == '-' or not uptime then sign = -1 end
  if least > 0 and uptime and uptime < least and run ~= durable then return run, sign, least - uptime end
  return run, sign
end

-- A count as F has it, nil if it has none; false if it is no count.
local function number(count)
  if not count then return nil end
  local digits = string.match(count, '^%d+$')
  local n = digits and tonumber(digits)
  return n and n >= 1 and n < MAX_COUNT and n or false
end

-- The count of the next grant. If the last was not counted in this run, or never, it
-- starts above everything ever issued.
local function following(count, counted_run, run)
  if count and counted_run == run then return count + 1 end
  return math.max((count or 0) + 1, micros())
end

