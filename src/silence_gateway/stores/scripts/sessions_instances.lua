-- Which instances hold sessions: beat, forget, and list. Twin: MemorySessions.beat, forget_instance
-- and instances.
--
-- KEYS[1]  leases: sorted set of instances by the time their lease runs out, microseconds
-- KEYS[2]  infos: hash of instance to what it said about itself
-- ARGV[1]  "beat", "forget" or "list"
-- ARGV[2]  instance
-- ARGV[3]  lease_us, microseconds
-- ARGV[4]  info
-- ARGV[5]  ttl_ms of both keys, milliseconds, 1 or more
-- Returns  beat: {1 if it was known and alive, else 0}; forget: {0};
--          list: {instance, 1 if alive else 0, info, ...}
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
if ARGV[1] == 'beat' then
  local due_us = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or 0)
  redis.call('ZADD', KEYS[1], string.format('%.0f', now_us + tonumber(ARGV[3])), ARGV[2])
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
  if due_us > now_us then
    return {1}
  end
  return {0}
end
if ARGV[1] == 'forget' then
  redis.call('ZREM', KEYS[1], ARGV[2])
  redis.call('HDEL', KEYS[2], ARGV[2])
  return {0}
end
local answer = {}
local found = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for at = 1, #found, 2 do
  answer[#answer + 1] = found[at]
  answer[#answer + 1] = tonumber(found[at + 1]) > now_us and 1 or 0
  answer[#answer + 1] = redis.call('HGET', KEYS[2], found[at]) or ''
end
return answer
