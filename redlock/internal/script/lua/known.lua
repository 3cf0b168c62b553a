-- Stands behind server.lua in the library of functions. A function's upvalues live as
-- long as the library in this process: they are never saved, replicated or restored, so
-- that the run kept here is this process's own. The uptime is one that it has reached:
-- it only grows, so that an old one can but refuse a vote, and then INFO is asked again.
-- Nothing else is kept. What INFO denies to one user is asked again for the next.
do
  local ask, known, reached = server, nil, nil
  server = function(least)
    if known and reached >= least then return known, reached end
    local run, uptime = ask()
    if run ~= '-' and uptime then known, reached = run, uptime end
    return run, uptime
  end
end

