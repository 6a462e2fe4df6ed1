-- Say that an instance is alive, or that it leaves, and count who is. Python side: stores/valkey.py.
--
-- KEYS[1]  sorted set of instances by server time of their last sign of life, microseconds
-- ARGV[1]  "A" alive, "L" leaves
-- ARGV[2]  instance
-- ARGV[3]  microseconds after which a silent instance counts as dead
-- Returns  how many are alive
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
if ARGV[1] == 'L' then
  redis.call('ZREM', KEYS[1], ARGV[2])
else
  redis.call('ZADD', KEYS[1], string.format('%.0f', now_us), ARGV[2])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_us - tonumber(ARGV[3])))
-- Leaving may empty the set, and then there is nothing left to expire.
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(tonumber(ARGV[3]) / 1000) * 10))
return redis.call('ZCARD', KEYS[1])
