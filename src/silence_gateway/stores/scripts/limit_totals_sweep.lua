-- Forget limits that no instance shows any more: the counts of living limits keep their hash alive, so no
-- time to live ever reaches the fields of a limit that was removed.
--
-- KEYS[1], KEYS[2]  as in limit_totals_add.lua
-- ARGV[1]  how long a limit may be unseen, in us
-- ARGV[2]  most limits to forget in this call
-- Returns  names of the limits forgotten
local call = redis.call
local time = call("TIME")
local horizon_us = tonumber(time[1]) * 1000000 + tonumber(time[2]) - tonumber(ARGV[1])
local names = call("ZRANGEBYSCORE", KEYS[2], "-inf", string.format("%.0f", horizon_us), "LIMIT", 0, ARGV[2])
for _, name in ipairs(names) do
  call("HDEL", KEYS[1], name .. " allowed", name .. " denied", name .. " shadow_denied")
  call("ZREM", KEYS[2], name)
end
return names
