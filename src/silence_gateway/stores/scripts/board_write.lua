-- Write or remove one value of a room of the board, and push the change. Python side: stores/board.py.
--
-- KEYS[1]  room hash: "v" version, "b" first version, "p" when a value has no TTL, "=name" -> "expires_us:value"
-- ARGV[1]  pub/sub channel of the room
-- ARGV[2]  "S" set, "N" set only if absent, "R" remove
-- ARGV[3]  name
-- ARGV[4]  time to live in microseconds, 0 for none
-- ARGV[5]  value
-- ARGV[6]  most values a room may hold
-- Returns  {version, version before, server now_us}; versions grow, also across a wiped server, because
--          they start from the server's clock. Equal versions: nothing was written.
-- Pushes   "version before now_us expires_us name_bytes\n" name value; expires_us is 0 for none, -1 for removed.
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local old = tonumber(redis.call('HGET', KEYS[1], 'v') or '0')
local op, name, ttl_us, value = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local field = '=' .. name

-- A room outlives its values by an hour, so that its version is not forgotten between two of them; a
-- value without TTL is kept for 90 days after the last instance that watched it (see board_read.lua).
local KEEP_MS, FOREVER_MS = 3600000, 7776000000

local present = redis.call('HGET', KEYS[1], field)
if present then
  local expires_us = tonumber(string.match(present, '^%d+'))
  if expires_us > 0 and expires_us <= now_us then present = false end
end
if (op == 'N' and present) or (op == 'R' and not present) then
  return {old, old, now_us}
end
if op ~= 'R' and not present and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) + 3 then
  return redis.error_reply('ERR this room of the board is full')
end

local version = now_us
if version <= old then version = old + 1 end
local expires_us = -1
local needed_ms = KEEP_MS
if op == 'R' then
  redis.call('HDEL', KEYS[1], field)
else
  if ttl_us > 0 then
    expires_us = now_us + ttl_us
    needed_ms = KEEP_MS + math.ceil(ttl_us / 1000)
  else
    expires_us = 0
    needed_ms = FOREVER_MS
    redis.call('HSET', KEYS[1], 'p', '1')
  end
  redis.call('HSET', KEYS[1], field, string.format('%.0f:', expires_us) .. value)
end
redis.call('HSET', KEYS[1], 'v', string.format('%.0f', version))
if old == 0 then redis.call('HSET', KEYS[1], 'b', string.format('%.0f', version)) end
if redis.call('PTTL', KEYS[1]) < needed_ms then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', needed_ms))
end
redis.call('PUBLISH', ARGV[1],
  string.format('%.0f %.0f %.0f %.0f %d\n', version, old, now_us, expires_us, #name) .. name .. value)
return {version, old, now_us}
