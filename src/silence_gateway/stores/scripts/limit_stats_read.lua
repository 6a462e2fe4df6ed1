-- Read the fleet's statistics of one limit, without its top keys.
--
-- What is out of a window has ended (see limit_stats_add.lua), so every slot that is there is read.
--
-- KEYS[..] as in limit_stats_add.lua
-- ARGV[1]  places of a ring
-- ARGV[2]  number of windows
-- Returns  {since, allowed, denied, shadow_denied, near}, and per window
--          {allowed, denied, shadow_denied, near, clients}
local call = redis.call
local ring = tonumber(ARGV[1])

local answer = { call("HMGET", KEYS[1], "since", "allowed", "denied", "shadow_denied", "near") }
for window = 1, tonumber(ARGV[2]) do
  local first = 2 + (window - 1) * 4 * ring
  local read = { 0, 0, 0, 0 }
  for place = first, first + ring - 1 do
    local found = call("HMGET", KEYS[place], "allowed", "denied", "shadow_denied", "near")
    for index = 1, 4 do
      read[index] = read[index] + tonumber(found[index] or "0")
    end
  end
  read[5] = call("PFCOUNT", unpack(KEYS, first + ring, first + 2 * ring - 1))
  answer[1 + window] = read
end
return answer
