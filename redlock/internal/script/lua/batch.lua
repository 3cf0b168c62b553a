-- Run several requests in one call, each as if it were alone. Stands behind the
-- scripts' functions, which are in ops by name.
-- KEYS: two for each request
-- ARGV: for each request its script's name, its number of arguments, and these
-- Reply: an array of the requests' replies; one that failed is an error in it
local out, at = {}, 1
for i = 1, #KEYS, 2 do
  local last = at + 1 + tonumber(ARGV[at + 1])
  local ok, reply = pcall(ops[ARGV[at]], KEYS[i], KEYS[i + 1], unpack(ARGV, at + 2, last))
  if not ok then -- Redis 7 raises tables, 6.2 text
    reply = redis.error_reply(type(reply) == 'table' and reply.err or tostring(reply))
  end
  out[(i + 1) / 2] = reply
  at = last + 1
end
return out
