-- The fixed window. Must agree with core/fixed_window.py and core/calendar.py, number for number.
--
-- kind "f" follows the calendar, kind "h" begins with a key's first use.
-- rule.first   window_us
-- rule.second  where the first window begins, us since the epoch
-- rule.third   months per window, or 0; then the other two do not matter
--
-- Stored as two packed doubles: when the window began in us, and uses since then.
do
  local MOST_USES = 4503599627370496
  local BEGAN, ENDS, USED = 4, 5, 6
  local DAY_US, ERA_DAYS, EPOCH_DAYS = 86400000000, 146097, 719468

  -- The month that a day (0 is 1970-01-01) is in, counted from January of the year 0.
  local function month_of(day)
    day = day + EPOCH_DAYS
    local era = floor_div(day, ERA_DAYS)
    day = day - era * ERA_DAYS
    local year = floor_div(
      day - floor_div(day, 1460) + floor_div(day, 36524) - floor_div(day, 146096), 365)
    day = day - (365 * year + floor_div(year, 4) - floor_div(year, 100))
    return (era * 400 + year) * 12 + floor_div(5 * day + 2, 153) + 2
  end

  local function first_day(month)
    local years = floor_div(month - 2, 12)
    local since_march = month - 2 - years * 12
    local era = floor_div(years, 400)
    local year = years - era * 400
    return era * ERA_DAYS + 365 * year + floor_div(year, 4) - floor_div(year, 100)
      + floor_div(153 * since_march + 2, 5) - EPOCH_DAYS
  end

  local function bounds(rule, time_us)
    if rule.third > 0 then
      local month = month_of(floor_div(time_us, DAY_US))
      local first = month - fmod(month, rule.third)
      return first_day(first) * DAY_US, first_day(first + rule.third) * DAY_US
    end
    local start_us = time_us
    if rule.follows then
      start_us = time_us - rule.second
      start_us = time_us - (start_us - floor_div(start_us, rule.first) * rule.first)
    end
    return start_us, start_us + rule.first
  end

  local function load(key, rule)
    rule.follows = rule.letter == "f"
    local stored = call("GET", key)
    if stored then
      local began_us, used = unpack_from(">dd", stored)
      local _, end_us = bounds(rule, began_us)
      if now_us < end_us and began_us - now_us < end_us - began_us then
        return { key, rule, false, began_us, end_us, used }
      end
    end
    local start_us, end_us = bounds(rule, now_us)
    return { key, rule, false, start_us, end_us, 0 }
  end

  local function judge(state, cost)
    local limit, used = state[RULE].capacity, state[USED]
    local left_us = state[ENDS] - now_us
    local reset_us = (used > 0 or cost > 0) and left_us or 0
    if used + cost <= limit or cost == 0 then
      return max(0, limit - used - cost), 0, reset_us
    end
    if cost > limit then
      return max(0, limit - used), -1, used > 0 and reset_us or 0
    end
    return max(0, limit - used), left_us, reset_us
  end

  local function spend(state, cost)
    state[USED] = min(state[USED] + cost, MOST_USES)
  end

  local function write(state)
    call("SET", state[KEY], pack(">dd", state[BEGAN], state[USED]), "PX", ttl_ms(state[RULE], state[ENDS] - now_us))
  end

  local function give_back(state, amount, at_us)
    amount = at_us >= state[BEGAN] and min(amount, state[USED]) or 0
    if amount > 0 then
      state[USED] = state[USED] - amount
      write(state)
    end
    return amount
  end

  local function used(state)
    return state[USED], state[USED] > 0 and state[ENDS] - now_us or 0
  end

  local row = { load = load, judge = judge, spend = spend, write = write, give_back = give_back, used = used }
  kinds.f, kinds.h = row, row
end
