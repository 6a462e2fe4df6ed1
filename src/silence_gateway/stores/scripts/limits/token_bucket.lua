-- The token bucket. Must agree with core/token_bucket.py, number for number.
--
-- rule.first   earn_units, earned per microsecond
-- rule.second  token_units, worth of one token
-- rule.third   the most units that a bucket may owe
--
-- Stored as two packed doubles: debt in units, and the time in us it was owed at.
do
  local DEBT, AT = 4, 5

  local function load(key, rule)
    local stored = call("GET", key)
    if stored then
      local debt, at_us = unpack_from(">dd", stored)
      local earn_units = rule.first
      local elapsed_us = now_us - at_us
      if elapsed_us < ceil_div(debt, earn_units) and -elapsed_us < ceil_div(rule.third, earn_units) then
        if elapsed_us < 0 then
          return { key, rule, false, debt, at_us }
        end
        return { key, rule, false, debt - elapsed_us * earn_units, now_us }
      end
    end
    return { key, rule, false, 0, now_us }
  end

  local function judge(bucket, cost)
    local rule, debt = bucket[RULE], bucket[DEBT]
    local earn_units, token_units = rule.first, rule.second
    local ahead_us = max(0, bucket[AT] - now_us)
    local room = rule.capacity * token_units - debt
    local left = room - cost * token_units
    if left >= 0 or cost == 0 then
      local owed = debt + cost * token_units
      return max(0, floor_div(left, token_units)), 0, ahead_us + ceil_div(owed, earn_units)
    end
    local remaining = floor_div(max(0, room), token_units)
    local reset_us = ahead_us + ceil_div(debt, earn_units)
    if cost > rule.capacity then
      return remaining, -1, reset_us
    end
    return remaining, ahead_us + ceil_div(-left, earn_units), reset_us
  end

  local function spend(bucket, cost)
    bucket[DEBT] = min(bucket[DEBT] + cost * bucket[RULE].second, bucket[RULE].third)
  end

  local function write(bucket)
    local rule, debt, at_us = bucket[RULE], bucket[DEBT], bucket[AT]
    call("SET", bucket[KEY], pack(">dd", debt, at_us), "PX", ttl_ms(rule, at_us - now_us + ceil_div(debt, rule.first)))
  end

  local function give_back(bucket, amount, at_us)
    local rule = bucket[RULE]
    local earn_units, token_units = rule.first, rule.second
    amount = min(amount, floor_div(rule.third, token_units))
    local owed = max(0, min(amount * token_units - max(0, now_us - at_us) * earn_units, bucket[DEBT]))
    if owed > 0 then
      bucket[DEBT] = bucket[DEBT] - owed
      write(bucket)
    end
    return ceil_div(owed, token_units)
  end

  local function used(bucket)
    local _, _, reset_us = judge(bucket, 0)
    return ceil_div(bucket[DEBT], bucket[RULE].second), reset_us
  end

  kinds.b = { load = load, judge = judge, spend = spend, write = write, give_back = give_back, used = used }
end
