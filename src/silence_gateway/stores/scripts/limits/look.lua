-- Look what requests would meet, each ask by itself: nothing is spent, and no block begins.
-- Must agree with core/prospect.py, number for number.
--
-- KEYS     for every ask: where it counts, and behind it, if its rule blocks, where its block is kept
-- ARGV     behind the rules, two per ask: rule (from 1), cost (0 asks what is left)
-- Returns  now_us, and four integers per ask: remaining with nothing spent, retry_after_us (0 passes, -1
--          never), reset_us, and for how long a block holds, in us

for index = 1, tonumber(ARGV[2]) do
  local letter, ttl = ARGV[argument + 1], ARGV[argument + 6]
  rules[index] = {
    letter = letter, kind = kinds[letter], capacity = tonumber(ARGV[argument + 2]),
    first = tonumber(ARGV[argument + 3]), second = tonumber(ARGV[argument + 4]), third = tonumber(ARGV[argument + 5]),
    ttl = ttl ~= "" and ttl, shadow = ARGV[argument + 7] == "1", block_us = tonumber(ARGV[argument + 8]),
  }
  argument = argument + 8
end

local answer, key_at = { now_us }, 0
while argument < #ARGV do
  local rule, cost = rules[tonumber(ARGV[argument + 1])], tonumber(ARGV[argument + 2])
  argument = argument + 2
  key_at = key_at + 1
  local state = rule.kind.load(KEYS[key_at], rule)
  local left, _, reset_us = rule.kind.judge(state, 0)
  local retry_us, blocked_us = 0, 0
  if cost > 0 then
    -- No holder has an empty name, so that nobody is taken for one who has a place.
    _, retry_us = rule.kind.judge(state, cost, "")
  end
  if rule.block_us > 0 then
    key_at = key_at + 1
    local left_us = tonumber(call("GET", KEYS[key_at]) or 0) - now_us
    -- A block that ends later than a whole one from now was written by another clock.
    if left_us > 0 and left_us <= rule.block_us then
      left, reset_us, blocked_us = 0, max(reset_us, left_us), left_us
      if cost > 0 and retry_us >= 0 then
        retry_us = max(retry_us, left_us)
      end
    end
  end
  local place = #answer
  answer[place + 1], answer[place + 2], answer[place + 3], answer[place + 4] = left, retry_us, reset_us, blocked_us
end
return answer
