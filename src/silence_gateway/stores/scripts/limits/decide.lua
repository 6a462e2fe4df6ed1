-- Decide about a batch of requests, each with several limits, all or nothing per request.
--
-- KEYS     for every ask, in the order of the requests: where it counts, and behind it, if its rule
--          blocks, where its block is kept; a key may come again in a later request, not in the same
-- ARGV     behind the rules: 1 if no key comes twice, else 0; and then runs of requests that ask the same;
--          each is
--            how many requests, how many asks each,
--            per ask: rule (from 1), cost (0 asks what is left),
--            and per request, per ask about holders: the holder
-- Returns  now_us, and three integers per ask: remaining, retry_after_us (0 allowed, -1 never), reset_us
--
-- What several requests spend on one key is written once, at the end. A block is a string: until when, in
-- us. It begins with a refusal, and refusals while it holds do not prolong it.

for index = 1, tonumber(ARGV[2]) do
  local letter, ttl = ARGV[argument + 1], ARGV[argument + 6]
  rules[index] = {
    letter = letter, kind = kinds[letter], capacity = tonumber(ARGV[argument + 2]),
    first = tonumber(ARGV[argument + 3]), second = tonumber(ARGV[argument + 4]), third = tonumber(ARGV[argument + 5]),
    ttl = ttl ~= "" and ttl, shadow = ARGV[argument + 7] == "1", block_us = tonumber(ARGV[argument + 8]),
  }
  argument = argument + 8
end

local apart = ARGV[argument + 1] == "1"
argument = argument + 1
local states, dirty, blocks, answer = {}, {}, {}, { now_us }
local key_at, place = 0, 1

-- Lay the block of a key over what its limit says, and begin one where the limit refuses.
local function with_block(rule, block_key, cost, left, retry_us, reset_us)
  local until_us = blocks[block_key]
  if not until_us then
    until_us = tonumber(call("GET", block_key) or 0)
    -- A block that ends later than a whole one from now was written by another clock.
    if until_us > now_us + rule.block_us then
      until_us = 0
    end
    blocks[block_key] = until_us
  end
  if until_us > now_us then
    left, reset_us = 0, max(reset_us, until_us - now_us)
    if cost > 0 and retry_us >= 0 then
      retry_us = max(retry_us, until_us - now_us)
    end
  elseif retry_us > 0 then
    until_us = now_us + rule.block_us
    blocks[block_key] = until_us
    call("SET", block_key, whole(until_us), "PX", whole(ceil_div(rule.block_us, 1000) + 1000))
    left, retry_us, reset_us = 0, max(retry_us, rule.block_us), max(reset_us, rule.block_us)
  end
  return left, retry_us, reset_us
end

-- One limit per request and no key twice: the usual batch, without a second look at anything.
local function decide_apart(requests, rule, cost)
  local kind = rule.kind
  local load, judge, spend, write = kind.load, kind.judge, kind.spend, kind.write
  for _ = 1, requests do
    key_at = key_at + 1
    local state = load(KEYS[key_at], rule)
    local left, retry_us, reset_us = judge(state, cost)
    if retry_us == 0 and cost > 0 then
      spend(state, cost)
      write(state)
    end
    answer[place + 1], answer[place + 2], answer[place + 3] = left, retry_us, reset_us
    place = place + 3
  end
end

local function decide(requests, asks, run_rules, run_costs)
  for _ = 1, requests do
    local passes, first_place = true, place
    local asked, holders = {}, {}
    for ask = 1, asks do
      local rule, cost = run_rules[ask], run_costs[ask]
      local kind = rule.kind
      key_at = key_at + 1
      local key, holder = KEYS[key_at], nil
      if rule.letter == "c" then
        argument = argument + 1
        holder = ARGV[argument]
      end
      local state = states[key]
      if not state then
        state = kind.load(key, rule)
        states[key] = state
      end
      local left, retry_us, reset_us = kind.judge(state, cost, holder)
      if rule.block_us > 0 then
        key_at = key_at + 1
        left, retry_us, reset_us = with_block(rule, KEYS[key_at], cost, left, retry_us, reset_us)
      end
      asked[ask], holders[ask] = state, holder
      if retry_us ~= 0 and not rule.shadow then
        passes = false
      end
      answer[place + 1], answer[place + 2], answer[place + 3] = left, retry_us, reset_us
      place = place + 3
    end
    for ask = 1, asks do
      local answer_at = first_place + 3 * ask - 3
      local state, cost = asked[ask], run_costs[ask]
      if answer[answer_at + 2] == 0 and cost > 0 then
        local kind = run_rules[ask].kind
        if passes then
          kind.spend(state, cost, holders[ask])
          if not state[DIRTY] then
            state[DIRTY] = true
            dirty[#dirty + 1] = state
          end
        else
          -- Somebody else refused: say what is left with nothing spent.
          local left, _, reset_us = kind.judge(state, 0)
          answer[answer_at + 1], answer[answer_at + 3] = left, reset_us
        end
      end
    end
  end
end

local arguments = #ARGV
while argument < arguments do
  local requests, asks = tonumber(ARGV[argument + 1]), tonumber(ARGV[argument + 2])
  local rule, cost = rules[tonumber(ARGV[argument + 3])], tonumber(ARGV[argument + 4])
  if apart and asks == 1 and rule.letter ~= "c" and rule.block_us == 0 then
    argument = argument + 4
    decide_apart(requests, rule, cost)
  else
    local run_rules, run_costs = {}, {}
    for ask = 1, asks do
      local at = argument + 1 + 2 * ask
      run_rules[ask], run_costs[ask] = rules[tonumber(ARGV[at])], tonumber(ARGV[at + 1])
    end
    argument = argument + 2 + 2 * asks
    decide(requests, asks, run_rules, run_costs)
  end
end

for index = 1, #dirty do
  local state = dirty[index]
  state[RULE].kind.write(state)
end
return answer
