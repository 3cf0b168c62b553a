-- Stands before each script that asks for the server's run.
-- server() returns its run_id, or '-' where it does not tell (then it counts as
-- always the same run), and its uptime in seconds, or nil. The plain finds are
-- for speed: patterns over the whole text take three times as long.
local function server()
  local info = redis.pcall('INFO', 'server')
  if type(info) ~= 'string' then return '-', nil end
  local _, at = string.find(info, 'run_id:', 1, true)
  local run = at and string.match(info, '^%w+', at + 1)
  _, at = string.find(info, 'uptime_in_seconds:', at or 1, true)
  return run or '-', at and tonumber(string.match(info, '^%d+', at + 1))
end

