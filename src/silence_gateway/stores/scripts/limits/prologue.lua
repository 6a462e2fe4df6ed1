-- What every script about limits begins with. `stores/limit_scripts.py` puts a script together: this
-- file, the algorithms that its rules need, and decide.lua, look.lua or
-- adjust.lua.
--
-- ARGV[1]  now_us, or "" for this server's own clock
-- ARGV[2]  how many rules follow; each is eight arguments:
--            kind, capacity, three numbers that its algorithm names, ttl_ms or "", shadow 0|1, block_us
--
-- Numbers are doubles: every value stays below 2^53, and fmod is exact where floor(a / b) is not.
--
-- An algorithm is a row of `kinds` with these functions; a state is what load returns, kept per key:
--   load(key, rule)                  -> state, a list: key, rule, whether it is to be written, and its own
--   judge(state, cost, holder)       -> remaining, retry_us (0 allowed, -1 never), reset_us
--   spend(state, cost, holder)       spends whether it fits or not
--   write(state)                     stores what was spent, with a time to live
--   give_back(state, amount, at_us)  -> amount undone; stores it (uses only)
--   release(state, holder)           -> 1 or 0; stores it (holders only)
--   used(state)                      -> uses that count now, reset_us
--
-- This is the hot path of the whole gateway, so it looks different from other Lua (measured on Valkey 9.1):
-- numbers are handed to commands as text that exists already (formatting one takes 0.9 us, a number as an
-- argument as much), values are packed by struct (0.2 us, and half the memory), and states are lists with
-- named places (0.2 us to make; a table with as many names takes 0.7).
local call = redis.call
local fmod, max, min = math.fmod, math.max, math.min
local sub, pack, unpack_from = string.sub, struct.pack, struct.unpack

local function whole(number)
  return string.format("%.0f", number)
end

local function floor_div(a, b)
  local rest = fmod(a, b)
  if rest < 0 then
    rest = rest + b
  end
  return (a - rest) / b
end

local function ceil_div(a, b)
  return -floor_div(-a, b)
end

local now_text = ARGV[1]
if now_text == "" then
  local time = call("TIME")
  now_text = time[1] .. sub("000000" .. time[2], -6)
end
local now_us = tonumber(now_text)

-- How long a key has to live that ends in left_us: what its rule says for all, where windows are short.
local function ttl_ms(rule, left_us)
  return rule.ttl or whole(ceil_div(left_us, 1000) + 1000)
end

local rules, argument = {}, 2
local KEY, RULE, DIRTY = 1, 2, 3
local kinds = {}
