-- Concurrency: places with an end. Must agree with core/concurrency.py, number for number.
--
-- rule.first  ttl_us, how long a place lasts unless it is renewed
--
-- Stored in a sorted set. Score: when the place is free again, in us. Member: its holder.
do
  local RETRY_US = 1000000
  local HELD, UNTIL = 4, 5

  local function load(key, rule)
    call("ZREMRANGEBYSCORE", key, "-inf", now_text)
    -- What ends later than a whole time to live from now was written by another clock.
    local latest = whole(now_us + rule.first)
    for _, holder in ipairs(call("ZRANGEBYSCORE", key, "(" .. latest, "+inf")) do
      call("ZADD", key, latest, holder)
    end
    return { key, rule, false, call("ZCARD", key), latest }
  end

  local function judge(state, cost, holder)
    local left = state[RULE].capacity - state[HELD]
    if cost == 0 or call("ZSCORE", state[KEY], holder) then
      return max(0, left), 0, 0
    end
    if cost <= left then
      return left - 1, 0, 0
    end
    local first = call("ZRANGE", state[KEY], "0", "0", "WITHSCORES")
    return 0, min(RETRY_US, tonumber(first[2]) - now_us), 0
  end

  -- Places are given at once and not at the end of the batch: the next one who asks must see their ends.
  local function spend(state, _, holder)
    state[HELD] = state[HELD] + call("ZADD", state[KEY], state[UNTIL], holder)
  end

  local function write(state)
    call("PEXPIRE", state[KEY], ttl_ms(state[RULE], state[RULE].first))
  end

  local function release(state, holder)
    return call("ZREM", state[KEY], holder)
  end

  local function used(state)
    return state[HELD], 0
  end

  kinds.c = { load = load, judge = judge, spend = spend, write = write, release = release, used = used }
end
