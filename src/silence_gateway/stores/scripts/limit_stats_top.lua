-- Read the top keys of one limit in one window.
--
-- KEYS[..] every place of one ring of sorted sets (see limit_stats_add.lua)
-- ARGV[1]  how many keys are wanted
-- Returns  {key, count, ...}, highest count first
local asked = { "ZUNION", #KEYS, unpack(KEYS) }
asked[#asked + 1] = "WITHSCORES"
-- Lowest count first, key and count in turn.
local all = redis.call(unpack(asked))
local found = {}
for index = #all - 1, math.max(1, #all + 1 - 2 * tonumber(ARGV[1])), -2 do
  found[#found + 1] = all[index]
  found[#found + 1] = all[index + 1]
end
return found
