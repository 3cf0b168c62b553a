-- Free the lock if it is mine.
-- KEYS: 1 the lock, 2 its fence counter (not touched; it keeps the scripts alike)
-- ARGV: 1 my value; "*" is anybody's: an operator's force release
-- Reply: 1 freed; 0 it was free; 2 it is another's
local holder = redis.call('GET', KEYS[1])
if not holder then return 0 end
if holder ~= ARGV[1] and ARGV[1] ~= '*' then return 2 end
redis.call('DEL', KEYS[1])
return 1
