-- Decide about a batch of requests, each with several limits, all or nothing per request.
-- Must agree with core/sliding_window.py and core/token_bucket.py, number for number.
--
-- KEYS[i]  where the i-th ask counts; the same key may come again in a later request, not in the same
-- ARGV[1]  now_us, or "" for this server's own clock
-- ARGV[2]  how many rules follow; each is five arguments:
--            "w" (sliding window) or "b" (token bucket)
--            capacity, whole uses
--            "w": window_us               "b": earn_units, earned per microsecond
--            "w": 0                       "b": token_units, worth of one token
--            1 if the rule only counts what it would refuse (shadow), else 0
-- ARGV[..] then per request: how many asks, and per ask: rule (from 1), cost (0 asks what is left)
-- Returns  four integers per ask: allowed 0|1, remaining, retry_after_us (-1 never), reset_us
--
-- What is stored:
--   "w": a sorted set. Score: time in us. Member: the running total after that moment, as one letter
--        for its number of digits and then the digits, so that members of one score sort as numbers;
--        then ":" and what was spent at that moment, unless that is 1.
--   "b": a string: debt in units, a space, the time in us it was owed at.
-- All that one batch spends on one key is written once, at the end. A sorted set gets a new time to live
-- when it is made and then once per slot of an eighth of its window: always enough for window and slot.
--
-- Numbers are doubles: every value stays below 2^53, fmod is exact where floor(a / b) is not, and whole()
-- writes them, because tostring() keeps 14 digits only.

local call = redis.call
local fmod = math.fmod
local max = math.max

local format, char, sub = string.format, string.char, string.sub

local function whole(number)
  return format("%.0f", number)
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

local now_us = tonumber(ARGV[1])
if not now_us then
  local time = call("TIME")
  now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local now_text = whole(now_us)

-- Sliding window --------------------------------------------------------------------------------

local function member_of(total, spent)
  local digits = whole(total)
  local member = char(96 + #digits) .. digits
  if spent ~= 1 then
    member = member .. ":" .. whole(spent)
  end
  return member
end

-- Returns the running total after the moment, and before it.
local function totals_of(member)
  local total = tonumber(sub(member, 2))
  if total then
    return total, total - 1
  end
  local colon = string.find(member, ":", 2, true)
  total = tonumber(sub(member, 2, colon - 1))
  return total, total - tonumber(sub(member, colon + 1))
end

local function load_log(key, rule)
  local window_us = rule.window_us
  -- at_us: now, unless the clock has stepped back. pending: spent by this batch, at at_us.
  local log = { key = key, rule = rule, at_us = now_us, start = 0, total = 0, stored = 0, pending = 0 }
  local last = call("ZRANGE", key, -1, -1, "WITHSCORES")
  if not last[1] then
    return log
  end
  local newest_us = tonumber(last[2])
  local ahead_us = newest_us - now_us
  if ahead_us >= window_us or -ahead_us >= window_us then
    log.over = true
    return log
  end
  if ahead_us > 0 then
    log.at_us = newest_us
  end
  log.newest_us, log.written_us = newest_us, newest_us
  log.total = totals_of(last[1])
  log.stored = log.total
  local first = call("ZRANGE", key, 0, 0, "WITHSCORES")
  local first_us = tonumber(first[2])
  local horizon_us = log.at_us - window_us
  if first_us <= horizon_us then
    log.stale = whole(horizon_us)
    first = call("ZRANGEBYSCORE", key, "(" .. log.stale, "+inf", "WITHSCORES", "LIMIT", 0, 1)
    first_us = tonumber(first[2])
  end
  log.first, log.first_us = first[1], first_us
  log.first_total, log.start = totals_of(first[1])
  return log
end

-- When the running total first reached `wanted`, which it has.
local function moment_of(log, wanted)
  if not log.first or log.stored < wanted then
    return log.at_us
  end
  if log.first_total >= wanted then
    return log.first_us
  end
  local low = call("ZRANK", log.key, log.first) + 1
  -- Every moment spends at least one, so no more moments than uses have to be passed.
  local high = math.min(call("ZCARD", log.key) - 1, low - 1 + wanted - log.first_total)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local total = totals_of(call("ZRANGE", log.key, middle, middle)[1])
    if total >= wanted then
      high = middle
    else
      low = middle + 1
    end
  end
  return tonumber(call("ZRANGE", log.key, low, low, "WITHSCORES")[2])
end

local function judge_log(log, cost)
  local limit = log.rule.capacity
  local window_us = log.rule.window_us
  local used = log.total - log.start
  local reset_us = log.newest_us and log.newest_us + window_us - now_us or 0
  if cost == 0 then
    return 1, max(0, limit - used), 0, reset_us
  end
  if used + cost <= limit then
    return 1, limit - used - cost, 0, max(reset_us, window_us)
  end
  if cost > limit then
    return 0, max(0, limit - used), -1, reset_us
  end
  local moment_us = moment_of(log, log.start + used + cost - limit)
  return 0, max(0, limit - used), moment_us + window_us - now_us, reset_us
end

local function spend_log(log, cost)
  log.newest_us = log.at_us
  log.total = log.total + cost
  log.pending = log.pending + cost
end

local function write_log(log)
  local key, at_us, window_us = log.key, log.at_us, log.rule.window_us
  if log.over then
    call("DEL", key)
  elseif log.stale then
    call("ZREMRANGEBYSCORE", key, "-inf", log.stale)
  end
  call("ZADD", key, at_us == now_us and now_text or whole(at_us), member_of(log.total, log.pending))
  local slot_us = ceil_div(window_us, 8)
  if not log.written_us or floor_div(log.written_us, slot_us) ~= floor_div(at_us, slot_us) then
    call("PEXPIRE", key, whole(ceil_div(at_us - now_us + window_us + slot_us, 1000) + 1000))
  end
end

-- Token bucket ----------------------------------------------------------------------------------

local function load_bucket(key, rule)
  local bucket = { key = key, rule = rule, debt = 0, at_us = now_us }
  local debt, at_us = string.match(call("GET", key) or "", "^(%d+) (%d+)$")
  if debt then
    debt, at_us = tonumber(debt), tonumber(at_us)
    local earn_units = rule.earn_units
    local elapsed_us = now_us - at_us
    local fill_us = ceil_div(rule.capacity * rule.token_units, earn_units)
    if elapsed_us < ceil_div(debt, earn_units) and -elapsed_us < fill_us then
      if elapsed_us < 0 then
        bucket.debt, bucket.at_us = debt, at_us
      else
        bucket.debt = debt - elapsed_us * earn_units
      end
    end
  end
  return bucket
end

local function judge_bucket(bucket, cost)
  local rule = bucket.rule
  local debt = bucket.debt
  local token_units, earn_units = rule.token_units, rule.earn_units
  local ahead_us = max(0, bucket.at_us - now_us)
  local room = rule.capacity * token_units - debt
  local left = room - cost * token_units
  if left >= 0 or cost == 0 then
    local owed = debt + cost * token_units
    return 1, max(0, floor_div(left, token_units)), 0, ahead_us + ceil_div(owed, earn_units)
  end
  local remaining = floor_div(max(0, room), token_units)
  local reset_us = ahead_us + ceil_div(debt, earn_units)
  if cost > rule.capacity then
    return 0, remaining, -1, reset_us
  end
  return 0, remaining, ahead_us + ceil_div(-left, earn_units), reset_us
end

local function spend_bucket(bucket, cost)
  bucket.debt = bucket.debt + cost * bucket.rule.token_units
end

local function write_bucket(bucket)
  local over_us = bucket.at_us - now_us + ceil_div(bucket.debt, bucket.rule.earn_units)
  local ttl_ms = whole(ceil_div(over_us, 1000) + 1000)
  local at_text = bucket.at_us == now_us and now_text or whole(bucket.at_us)
  call("SET", bucket.key, whole(bucket.debt) .. " " .. at_text, "PX", ttl_ms)
end

-- The batch -------------------------------------------------------------------------------------

local argument = 2
local function next_argument()
  argument = argument + 1
  return ARGV[argument]
end

local rules = {}
for index = 1, tonumber(ARGV[2]) do
  local kind, capacity = next_argument(), tonumber(next_argument())
  local first, second = tonumber(next_argument()), tonumber(next_argument())
  local rule = { capacity = capacity, shadow = next_argument() == "1" }
  if kind == "w" then
    rule.window_us = first
    rule.load, rule.judge, rule.spend, rule.write = load_log, judge_log, spend_log, write_log
  else
    rule.earn_units, rule.token_units = first, second
    rule.load, rule.judge, rule.spend, rule.write = load_bucket, judge_bucket, spend_bucket, write_bucket
  end
  rules[index] = rule
end

local states, dirty, answer = {}, {}, {}
local ask, asked = 0, #KEYS
while ask < asked do
  local first = ask + 1
  local passes = true
  local costs = {}
  for _ = 1, tonumber(next_argument()) do
    ask = ask + 1
    local key = KEYS[ask]
    local rule = rules[tonumber(next_argument())]
    local cost = tonumber(next_argument())
    local state = states[key]
    if not state then
      state = rule.load(key, rule)
      states[key] = state
    end
    costs[ask] = cost
    local place = ask * 4
    local allowed, remaining, retry_us, reset_us = rule.judge(state, cost)
    answer[place - 3], answer[place - 2], answer[place - 1], answer[place] = allowed, remaining, retry_us, reset_us
    if allowed == 0 and not rule.shadow then
      passes = false
    end
  end
  for index = first, ask do
    local place = index * 4
    if answer[place - 3] == 1 then
      local state = states[KEYS[index]]
      local cost = costs[index]
      if not passes then
        -- Somebody else refused: say what is left with nothing spent.
        local _, remaining, _, reset_us = state.rule.judge(state, 0)
        answer[place - 2], answer[place] = remaining, reset_us
      elseif cost > 0 then
        state.rule.spend(state, cost)
        if not state.dirty then
          state.dirty = true
          dirty[#dirty + 1] = state
        end
      end
    end
  end
end

for _, state in ipairs(dirty) do
  state.rule.write(state)
end
return answer
