-- Say that an instance has these limits.
--
-- KEYS[1]  sorted set of limits by the server time in us at which an instance last had them
-- ARGV[1]  time to live of KEYS[1], in ms
-- ARGV[2]  and on: names of limits
-- Returns  how many limits are in the set
local call = redis.call
local time = call("TIME")
local now_us = string.format("%.0f", time[1] * 1000000 + time[2])
for index = 2, #ARGV do
  call("ZADD", KEYS[1], now_us, ARGV[index])
end
call("PEXPIRE", KEYS[1], ARGV[1])
return call("ZCARD", KEYS[1])
