-- Take, renew or give up a lease. Python side: stores/board.py.
--
-- KEYS[1]  lease hash: "h" holder, "f" fencing number, "x" end in server microseconds
-- ARGV[1]  "T" take or renew, "G" give up
-- ARGV[2]  who asks
-- ARGV[3]  time to live in microseconds
-- Returns  the fencing number, or 0 when another holds the lease (for "G": 0)
--
-- Fencing numbers start from the server's clock: they grow also when the key was forgotten meanwhile.
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local held = redis.call('HMGET', KEYS[1], 'h', 'f', 'x')
local alive = held[1] and tonumber(held[3]) > now_us
if ARGV[1] == 'G' then
  if alive and held[1] == ARGV[2] then
    redis.call('HSET', KEYS[1], 'x', '0')
  end
  return 0
end
if alive and held[1] ~= ARGV[2] then
  return 0
end
local fence = tonumber(held[2] or '0')
if not alive then
  fence = math.max(now_us, fence + 1)
end
local ttl_us = tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'h', ARGV[2], 'f', string.format('%.0f', fence), 'x', string.format('%.0f', now_us + ttl_us))
-- Kept for an hour longer than the lease, so that a clock set back cannot repeat a number.
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(ttl_us / 1000) + 3600000))
return fence
