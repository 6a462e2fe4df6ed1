-- Who is in a channel: come, go and ask, each after those whose lease ran out have been taken out.
-- Twin: MemorySessions.join, leave, presence and presence_stats.
--
-- KEYS[1]  clients: hash of client id to "<bytes of user>:<user><info>"
-- KEYS[2]  leases: sorted set of client ids by the time their lease runs out, microseconds
-- KEYS[3]  users: hash of user to how many clients it has here
-- ARGV[1]  lease_us of those who come, microseconds, 1 or more
-- ARGV[2]  how many come; for each an id and a value follow
-- ARGV[3]  how many go; for each an id follows after those
-- ARGV[4]  how many to return at most, 0 or more
-- ARGV[5..] as said
-- Returns  {clients, users, id, value, id, value, ...}
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local lease_us = tonumber(ARGV[1])

local function user_of(value)
  local colon = string.find(value, ':', 1, true)
  return string.sub(value, colon + 1, colon + tonumber(string.sub(value, 1, colon - 1)))
end

local function go(id)
  local value = redis.call('HGET', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
  if value then
    redis.call('HDEL', KEYS[1], id)
    local user = user_of(value)
    if redis.call('HINCRBY', KEYS[3], user, -1) < 1 then
      redis.call('HDEL', KEYS[3], user)
    end
  end
end

-- A thousand at a time: a call that finds a huge room abandoned must not hold up everybody else.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now_us, 'LIMIT', 0, 1000)) do
  go(id)
end
local at = 5
for _ = 1, tonumber(ARGV[2]) do
  -- Most of the time this only makes a lease longer.
  if redis.call('HGET', KEYS[1], ARGV[at]) ~= ARGV[at + 1] then
    go(ARGV[at])
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
    redis.call('HINCRBY', KEYS[3], user_of(ARGV[at + 1]), 1)
  end
  -- Microseconds since the epoch have 16 digits; written in full, not as 1.8e+15.
  redis.call('ZADD', KEYS[2], string.format('%.0f', now_us + lease_us), ARGV[at])
  at = at + 2
end
for _ = 1, tonumber(ARGV[3]) do
  go(ARGV[at])
  at = at + 1
end
if tonumber(ARGV[2]) > 0 then
  for _, key in ipairs(KEYS) do
    local ttl_ms = math.ceil(lease_us / 1000) + 1000
    if redis.call('PTTL', key) < ttl_ms then
      redis.call('PEXPIRE', key, ttl_ms)
    end
  end
end
local answer = {redis.call('ZCOUNT', KEYS[2], '(' .. string.format('%.0f', now_us), '+inf'), redis.call('HLEN', KEYS[3])}
if ARGV[4] ~= '0' then
  local limit = tonumber(ARGV[4])
  local ids = redis.call('ZREVRANGE', KEYS[2], 0, limit - 1)
  for _, id in ipairs(ids) do
    local value = redis.call('HGET', KEYS[1], id)
    if value then
      answer[#answer + 1] = id
      answer[#answer + 1] = value
    end
  end
end
return answer
