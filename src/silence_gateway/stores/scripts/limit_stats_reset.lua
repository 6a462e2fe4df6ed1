-- Begin the fleet's statistics of one limit anew, or forget that there were any.
--
-- KEYS[..] as in limit_stats_add.lua
-- ARGV[1]  time to live of KEYS[1], in ms; 0 to forget
-- Returns  the new generation, later than any before; 0 if forgotten
local call = redis.call
local old = tonumber(call("HGET", KEYS[1], "generation") or "0")
call("UNLINK", unpack(KEYS))
if ARGV[1] == "0" then
  return "0"
end
local time = call("TIME")
local now_us = time[1] * 1000000 + time[2]
local generation = string.format("%.0f", math.max(now_us, old + 1))
call("HSET", KEYS[1], "generation", generation, "since", string.format("%.0f", now_us))
call("PEXPIRE", KEYS[1], ARGV[1])
return generation
