-- Add what one instance has counted to the fleet's statistics of one limit. Python side: stores/limit_stats_valkey.py.
--
-- A window of time is a ring of slots. Which slot is the present one is known only here, so every slot is
-- declared. A slot ends as soon as its window no longer reaches it, one slot before its place is written anew.
--
-- KEYS[1]  hash: "allowed", "denied", "shadow_denied", "near" since "since"; "generation". Times are server us.
-- KEYS[2]  and on, per window and kind one key per place of the ring; kinds are "counts" (hash, as above),
--          "clients" (HyperLogLog), "requests" and "refused" (sorted sets of keys by how often)
-- ARGV[1]  generation in which this was counted; "0" for whoever does not know it
-- ARGV[2]  places of a ring: one more than the slots that are read
-- ARGV[3]  most keys kept in a sorted set
-- ARGV[4]  time to live of KEYS[1], in ms
-- ARGV[5]  number of windows, and then the length of a slot of each, in seconds
-- ARGV[..] allowed, denied, shadow_denied, near
-- ARGV[..] number of busy keys, and per key: its text, requests; the same for refused keys
-- ARGV[..] and on: a hash of each client
-- Returns  the generation in force; nothing was added if it is above ARGV[1] and that is not "0"
local call = redis.call
local COUNTS = { "allowed", "denied", "shadow_denied", "near" }
local argument = 0

local function next_argument()
  argument = argument + 1
  return ARGV[argument]
end

local time = call("TIME")
local now_s = tonumber(time[1])
local now_us = string.format("%.0f", now_s * 1000000 + tonumber(time[2]))

local counted_in = next_argument()
local generation = call("HGET", KEYS[1], "generation")
if generation and counted_in ~= "0" and tonumber(generation) > tonumber(counted_in) then
  return generation
end
local ring, most, ttl_ms = tonumber(next_argument()), tonumber(next_argument()), next_argument()
local windows = {}
for window = 1, tonumber(next_argument()) do
  windows[window] = tonumber(next_argument())
end

-- A store that lost its memory is told the generation by whoever still knows it.
if not generation or tonumber(generation) < tonumber(counted_in) then
  generation = counted_in ~= "0" and counted_in or now_us
  call("HSET", KEYS[1], "generation", generation)
  call("HSETNX", KEYS[1], "since", now_us)
end

-- What to do to the present slot of each window: name of a key by kind, and when it ends.
local slots = {}
for window, slot_s in ipairs(windows) do
  local number = math.floor(now_s / slot_s)
  local first = 2 + (window - 1) * 4 * ring + number % ring
  slots[window] = {
    counts = KEYS[first], clients = KEYS[first + ring],
    requests = KEYS[first + 2 * ring], refused = KEYS[first + 3 * ring],
    ends_s = (number + ring - 1) * slot_s,
  }
end

local counts, any = {}, false
for _, what in ipairs(COUNTS) do
  counts[what] = next_argument()
  any = any or counts[what] ~= "0"
end
if any then
  for what, count in pairs(counts) do
    if count ~= "0" then
      call("HINCRBY", KEYS[1], what, count)
      for _, slot in ipairs(slots) do
        call("HINCRBY", slot.counts, what, count)
      end
    end
  end
  for _, slot in ipairs(slots) do
    call("EXPIREAT", slot.counts, slot.ends_s)
  end
end

for _, kind in ipairs({ "requests", "refused" }) do
  local keys = tonumber(next_argument())
  for _ = 1, keys do
    local text, count = next_argument(), next_argument()
    for _, slot in ipairs(slots) do
      call("ZINCRBY", slot[kind], count, text)
    end
  end
  if keys > 0 then
    for _, slot in ipairs(slots) do
      call("ZREMRANGEBYRANK", slot[kind], 0, -most - 1)
      call("EXPIREAT", slot[kind], slot.ends_s)
    end
  end
end

if argument < #ARGV then
  for _, slot in ipairs(slots) do
    call("PFADD", slot.clients, unpack(ARGV, argument + 1))
    call("EXPIREAT", slot.clients, slot.ends_s)
  end
end
call("PEXPIRE", KEYS[1], ttl_ms)
return generation
