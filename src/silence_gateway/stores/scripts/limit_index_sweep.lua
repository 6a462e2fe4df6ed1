-- Take limits that no instance shows any more out of the index; living ones keep it alive, so no time to
-- live ever reaches the name of one that was removed.
--
-- KEYS[1]  as in limit_index_show.lua
-- ARGV[1]  how long a limit may be unseen, in us
-- ARGV[2]  most limits to take out in this call
-- Returns  their names
local call = redis.call
local time = call("TIME")
local horizon_us = string.format("%.0f", time[1] * 1000000 + time[2] - tonumber(ARGV[1]))
local names = call("ZRANGEBYSCORE", KEYS[1], "-inf", horizon_us, "LIMIT", 0, ARGV[2])
if #names > 0 then
  call("ZREM", KEYS[1], unpack(names))
end
return names
