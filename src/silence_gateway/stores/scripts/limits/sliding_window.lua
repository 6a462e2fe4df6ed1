-- The exact sliding window. Must agree with core/sliding_window.py, number for number.
--
-- rule.first   window_us
-- rule.second  an eighth of it, rounded up
--
-- Stored as a string: six bytes with the running total before the first use that counts, and then a record
-- of 13 bytes per moment of use: its time in us (7 bytes) and the running total after it (6). Uses are
-- appended; what is over is cut off in the front once that is much. Sorted sets, which most people take for
-- this, need three times the memory per use (seven times above 128 uses) and half as much time again.
--
-- A key gets a new time to live when it is written anew and then once per eighth of its window: always
-- enough for a window and an eighth.
do
  local HEAD, RECORD = 6, 13
  -- Records read at once: all that most limits have. And how many that are over may stay in front.
  local CHUNK, STALE_KEPT = 128, 32

  -- Places in a log. AT: now, unless the clock has stepped back. START, TOTAL: running totals before the
  -- first use that counts, and after the last one. PENDING: spent by this script, at AT. NEWEST: when the
  -- last use in the store was, or false. FIRST: number of the first record within the window, from 1.
  -- TEXT: the stored log, or the front of one with more than CHUNK records. COUNT: how many it has.
  local AT, START, TOTAL, PENDING, NEWEST, FIRST, TEXT, COUNT = 4, 5, 6, 7, 8, 9, 10, 11

  -- Returns time and running total of one record.
  local function record_of(log, number)
    local text, at = log[TEXT], HEAD + 1 + (number - 1) * RECORD
    if at > #text then
      text, at = call("GETRANGE", log[KEY], whole(at - 1), whole(at + RECORD - 2)), 1
    end
    local time_us, total = unpack_from(">I7I6", text, at)
    return time_us, total
  end

  -- The first record from `low` on that `is_reached(time_us, total)`; there is one.
  local function first_record(log, low, is_reached)
    local high = log[COUNT]
    while low < high do
      local middle = math.floor((low + high) / 2)
      if is_reached(record_of(log, middle)) then
        high = middle
      else
        low = middle + 1
      end
    end
    return low
  end

  local function load(key, rule)
    local text = call("GETRANGE", key, "0", "1669")
    local length = #text
    if length == 0 then
      return { key, rule, false, now_us, 0, 0, 0, false, 1, "", 0 }
    end
    local newest_us, total
    local count = (length - HEAD) / RECORD
    if count < CHUNK then
      newest_us, total = unpack_from(">I7I6", text, length - RECORD + 1)
    else
      count = (call("STRLEN", key) - HEAD) / RECORD
      newest_us, total = unpack_from(">I7I6", call("GETRANGE", key, "-13", "-1"))
    end
    local window_us = rule.first
    local ahead_us = newest_us - now_us
    if ahead_us >= window_us or -ahead_us >= window_us then
      return { key, rule, false, now_us, 0, 0, 0, false, 1, "", 0 }
    end
    local at_us = ahead_us > 0 and newest_us or now_us
    local start, first_us = unpack_from(">I6I7", text)
    local log = { key, rule, false, at_us, start, total, 0, newest_us, 1, text, count }
    local horizon_us = at_us - window_us
    if first_us <= horizon_us then
      local first = first_record(log, 2, function(time_us) return time_us > horizon_us end)
      local _, before = record_of(log, first - 1)
      log[FIRST], log[START] = first, max(start, before)
    end
    return log
  end

  -- When the running total reached `wanted`, which it has.
  local function time_of(log, wanted)
    if log[TOTAL] - log[PENDING] < wanted then
      return log[AT]
    end
    local number = first_record(log, log[FIRST], function(_, total) return total >= wanted end)
    return (record_of(log, number))
  end

  local function judge(log, cost)
    local rule = log[RULE]
    local limit, window_us = rule.capacity, rule.first
    local used = log[TOTAL] - log[START]
    local reset_us = 0
    if used > 0 then
      reset_us = (log[PENDING] > 0 and log[AT] or log[NEWEST]) + window_us - now_us
    end
    if cost == 0 then
      return max(0, limit - used), 0, reset_us
    end
    if used + cost <= limit then
      return limit - used - cost, 0, max(reset_us, window_us)
    end
    if cost > limit then
      return max(0, limit - used), -1, reset_us
    end
    return max(0, limit - used), time_of(log, log[TOTAL] + cost - limit) + window_us - now_us, reset_us
  end

  local function spend(log, cost)
    log[TOTAL] = log[TOTAL] + cost
    log[PENDING] = log[PENDING] + cost
  end

  local function write(log)
    local key, at_us, newest_us = log[KEY], log[AT], log[NEWEST]
    local rule, first = log[RULE], log[FIRST]
    local eighth_us = rule.second
    local left_us = at_us - now_us + rule.first + eighth_us
    if newest_us == at_us then
      -- The same microsecond, or time has stepped back: the last record says the new total.
      call("SETRANGE", key, whole(HEAD + (log[COUNT] - 1) * RECORD), pack(">I7I6", at_us, log[TOTAL]))
    elseif not newest_us or first > STALE_KEPT then
      local kept = ""
      if newest_us then
        local from = HEAD + (first - 1) * RECORD
        kept = log[COUNT] < CHUNK and sub(log[TEXT], from + 1) or call("GETRANGE", key, whole(from), "-1")
      end
      local text = pack(">I6", log[START]) .. kept .. pack(">I7I6", at_us, log[TOTAL])
      call("SET", key, text, "PX", ttl_ms(rule, left_us))
    else
      call("APPEND", key, pack(">I7I6", at_us, log[TOTAL]))
      if at_us - newest_us >= eighth_us - fmod(newest_us, eighth_us) then
        call("PEXPIRE", key, ttl_ms(rule, left_us))
      end
    end
  end

  -- What is given back is taken from the oldest uses; see core/sliding_window.py for why.
  local function give_back(log, amount, at_us)
    local used = log[TOTAL] - log[START]
    if used == 0 or at_us <= log[AT] - log[RULE].first then
      return 0
    end
    amount = min(amount, used)
    call("SETRANGE", log[KEY], "0", pack(">I6", log[START] + amount))
    return amount
  end

  local function used(log)
    local _, _, reset_us = judge(log, 0)
    return log[TOTAL] - log[START], reset_us
  end

  kinds.w = { load = load, judge = judge, spend = spend, write = write, give_back = give_back, used = used }
end
