-- Stands behind the functions of the library, of which it makes callable what follows it.
-- keeps only extend, release or leave what is there, or agree on its count: a node whose
-- memory is full goes on with them. takes may need more memory.
local function batch(ops)
  return function(KEYS, ARGV)
--BATCH
  end
end

-- (While a library is loaded, the server lets it see nothing but this.)
local function register(name, callback, flags)
  redis.register_function{function_name = LIBRARY .. '_' .. name, callback = callback, flags = flags}
end

local function alone(f)
  return function(keys, args) return f(keys[1], keys[2], unpack(args)) end
end

