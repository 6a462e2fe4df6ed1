-- The sliding counter. Must agree with core/sliding_counter.py, number for number.
--
-- rule.first   window_us
-- rule.second  grain_us, the step in which the last window loses its weight
--
-- Stored as three packed doubles: when this window began in us, its uses, and those of the window before.
do
  local MOST_USES = 4294967296
  -- Places in a state. STEPS: grains in a window. WEIGHT: how many of them the last window still weighs.
  local BEGAN, THIS, LAST, STEPS, WEIGHT = 4, 5, 6, 7, 8

  local function load(key, rule)
    local window_us, grain_us = rule.first, rule.second
    local start_us, this, last = now_us - fmod(now_us, window_us), 0, 0
    local stored = call("GET", key)
    if stored then
      local began_us, used, before = unpack_from(">ddd", stored)
      local ahead_us = began_us - now_us
      if began_us == start_us or (ahead_us > 0 and ahead_us < window_us) then
        start_us, this, last = began_us, used, before
      elseif start_us - began_us == window_us then
        last = used
      end
    end
    local steps = ceil_div(window_us, grain_us)
    local weight = steps - floor_div(max(0, now_us - start_us), grain_us)
    return { key, rule, false, start_us, this, last, steps, weight }
  end

  local function judge(state, cost)
    local rule = state[RULE]
    local limit, window_us, grain_us = rule.capacity, rule.first, rule.second
    local start_us, this, last, steps = state[BEGAN], state[THIS], state[LAST], state[STEPS]
    local room = floor_div(limit * steps - last * state[WEIGHT], steps) - this
    local reset_us = 0
    if this > 0 or cost > 0 then
      reset_us = start_us + 2 * window_us - now_us
    elseif last > 0 then
      reset_us = start_us + window_us - now_us
    end
    if room >= cost or cost == 0 then
      return max(0, room - cost), 0, reset_us
    end
    if this == 0 then
      reset_us = last > 0 and start_us + window_us - now_us or 0
    end
    if cost > limit then
      return max(0, room), -1, reset_us
    end
    local wait_us = window_us
    local free = limit - cost - this
    if free >= 0 then
      wait_us = (steps - floor_div(free * steps, last)) * grain_us
    end
    if wait_us >= window_us then
      local steps_on = this > 0 and steps - floor_div((limit - cost) * steps, this) or 0
      wait_us = window_us + min(max(0, steps_on) * grain_us, window_us)
    end
    return max(0, room), start_us + wait_us - now_us, reset_us
  end

  local function spend(state, cost)
    state[THIS] = min(state[THIS] + cost, MOST_USES)
  end

  local function write(state)
    local left_us = state[BEGAN] + 2 * state[RULE].first - now_us
    call("SET", state[KEY], pack(">ddd", state[BEGAN], state[THIS], state[LAST]), "PX", ttl_ms(state[RULE], left_us))
  end

  local function give_back(state, amount, at_us)
    if at_us >= state[BEGAN] then
      amount = min(amount, state[THIS])
      state[THIS] = state[THIS] - amount
    elseif at_us >= state[BEGAN] - state[RULE].first then
      amount = min(amount, state[LAST])
      state[LAST] = state[LAST] - amount
    else
      amount = 0
    end
    if amount > 0 then
      write(state)
    end
    return amount
  end

  local function used(state)
    local _, _, reset_us = judge(state, 0)
    return state[THIS] + ceil_div(state[LAST] * state[WEIGHT], state[STEPS]), reset_us
  end

  kinds.n = { load = load, judge = judge, spend = spend, write = write, give_back = give_back, used = used }
end
