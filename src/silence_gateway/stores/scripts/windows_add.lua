-- Add to counters of windows that are aligned to the epoch. Twin: MemoryCounters.add_one.
--
-- KEYS[n]      counter: when its window began and what it has counted, two doubles; absent is 0
-- ARGV[2n-1]   window, microseconds
-- ARGV[2n]     hits to add; may be below 0
-- Returns  {after, reset_us, after, reset_us, ...}
local call, fmod, max, ceil = redis.call, math.fmod, math.max, math.ceil
local pack, unpack = struct.pack, struct.unpack
local time = call("TIME")
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local answer = {}
for index, key in ipairs(KEYS) do
  local window_us, hits = tonumber(ARGV[2 * index - 1]), tonumber(ARGV[2 * index])
  local began_us = now_us - fmod(now_us, window_us)
  local before = 0
  local stored = call("GET", key)
  if stored then
    local stored_us, count = unpack(">dd", stored)
    -- Time that steps back stands still until it has caught up, so that no window begins twice.
    if stored_us >= began_us then
      began_us, before = stored_us, count
    end
  end
  local after = max(0, before + hits)
  local reset_us = began_us + window_us - max(now_us, began_us)
  if after > 0 and after ~= before then
    -- Two seconds more than the window lasts, for a clock that steps back.
    call("SET", key, pack(">dd", began_us, after), "PX", ceil(reset_us / 1000) + 2000)
  elseif after == 0 and before > 0 then
    call("DEL", key)
  end
  answer[2 * index - 1], answer[2 * index] = after, reset_us
end
return answer
