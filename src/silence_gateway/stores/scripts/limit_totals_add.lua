-- Add what one instance has counted to the fleet's counts.
--
-- KEYS[1]  hash: "<limit> allowed", "<limit> denied", "<limit> shadow_denied"
-- KEYS[2]  sorted set of limits by the server time in us at which an instance last showed them
-- KEYS[3]  and on, two per limit: sorted sets of its busiest keys, for even and for odd periods
-- ARGV[1]  most busy keys kept per set
-- ARGV[2]  length of a period, in seconds
-- ARGV[3]  time to live of the first two keys, in ms
-- ARGV[..] per limit: name, allowed, denied, shadow_denied, number of busy keys, and per busy key: its text, count
-- Returns  the number of limits added
local call = redis.call
local most, period_s, ttl_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local time = call("TIME")
local now_s = tonumber(time[1])
local period = math.floor(now_s / period_s)
local argument, limits = 3, (#KEYS - 2) / 2

local function next_argument()
  argument = argument + 1
  return ARGV[argument]
end

for limit = 1, limits do
  local name = next_argument()
  for _, what in ipairs({ "allowed", "denied", "shadow_denied" }) do
    local count = next_argument()
    if count ~= "0" then
      call("HINCRBY", KEYS[1], name .. " " .. what, count)
    end
  end
  call("ZADD", KEYS[2], string.format("%.0f", now_s * 1000000 + tonumber(time[2])), name)
  local busy = tonumber(next_argument())
  if busy > 0 then
    local top = KEYS[1 + 2 * limit + period % 2]
    for _ = 1, busy do
      local key = next_argument()
      call("ZINCRBY", top, next_argument(), key)
    end
    call("ZREMRANGEBYRANK", top, 0, -most - 1)
    -- It ends just before the period that would write to it again.
    call("EXPIREAT", top, (period + 2) * period_s)
  end
end
if call("EXISTS", KEYS[1]) == 1 then
  call("PEXPIRE", KEYS[1], ttl_ms)
end
call("PEXPIRE", KEYS[2], ttl_ms)
return limits
