-- Read the fleet's counts.
--
-- KEYS[1]  as in limit_totals_add.lua
-- KEYS[2]  and on, two per limit: sorted sets of its busiest keys
-- ARGV[1]  most busy keys to return per set
-- ARGV[2]  and on: names of the limits, in the order of their keys
-- Returns  per limit: {{allowed, denied, shadow_denied}, {key, count, ...}, {key, count, ...}}
local call = redis.call
local last = tonumber(ARGV[1]) - 1
local answer = {}
for limit = 1, #ARGV - 1 do
  local name = ARGV[1 + limit]
  answer[limit] = {
    call("HMGET", KEYS[1], name .. " allowed", name .. " denied", name .. " shadow_denied"),
    call("ZREVRANGE", KEYS[2 * limit], 0, last, "WITHSCORES"),
    call("ZREVRANGE", KEYS[2 * limit + 1], 0, last, "WITHSCORES"),
  }
end
return answer
