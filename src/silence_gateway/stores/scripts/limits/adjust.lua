-- Change what keys have spent without asking whether that is allowed.
--
-- KEYS     one per change; the same key may come again
-- ARGV     behind the rules, five per change: op, rule (from 1), amount, at_us, holder
--            "s" spend whatever it costs (0 looks)   "t" spend as much of it as is left
--            "b" give back what was spent at at_us   "h" give a place to holder, or renew it
--            "r" release the place of holder
-- Returns  now_us, and three integers per change: amount that it moved, uses that count now, reset_us

for index = 1, tonumber(ARGV[2]) do
  local letter, ttl = ARGV[argument + 1], ARGV[argument + 6]
  rules[index] = {
    letter = letter, kind = kinds[letter], capacity = tonumber(ARGV[argument + 2]),
    first = tonumber(ARGV[argument + 3]), second = tonumber(ARGV[argument + 4]), third = tonumber(ARGV[argument + 5]),
    ttl = ttl ~= "" and ttl, shadow = ARGV[argument + 7] == "1", block_us = tonumber(ARGV[argument + 8]),
  }
  argument = argument + 8
end

local answer = { now_us }
for index = 1, #KEYS do
  local op, rule = ARGV[argument + 1], rules[tonumber(ARGV[argument + 2])]
  local amount, at_us, holder = tonumber(ARGV[argument + 3]), tonumber(ARGV[argument + 4]), ARGV[argument + 5]
  argument = argument + 5
  local kind = rule.kind
  local state = kind.load(KEYS[index], rule)
  if op == "b" then
    amount = kind.give_back(state, amount, at_us)
  elseif op == "r" then
    amount = kind.release(state, holder)
  else
    if op == "t" then
      -- What is left is what a look says is left.
      amount = min(amount, (kind.judge(state, 0)))
    end
    if op == "h" then
      amount = 1
    end
    if amount > 0 then
      kind.spend(state, amount, holder)
      kind.write(state)
    end
  end
  if op == "b" or op == "r" then
    state = kind.load(KEYS[index], rule)
  end
  local used, reset_us = kind.used(state)
  local place = index * 3 - 1
  answer[place], answer[place + 1], answer[place + 2] = amount, used, reset_us
end
return answer
