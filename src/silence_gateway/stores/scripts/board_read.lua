-- Read a room of the board, unless the caller has it already or asks for its version only. Python side: stores/board.py.
--
-- KEYS[1]  room hash, as in board_write.lua
-- ARGV[1]  version that the caller knows, 0 for none
-- ARGV[2]  "V" for the version only
-- Returns  {version, server now_us, first version} when that is the caller's version, {0, now_us, 0} when
--          there is no such room; else, unless only that was asked for, the same three and then name, expires_us, value of each that has
--          not run out.
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local version = redis.call('HGET', KEYS[1], 'v')
if not version then
  return {0, now_us, 0}
end
if redis.call('PTTL', KEYS[1]) < 3888000000 and redis.call('HEXISTS', KEYS[1], 'p') == 1 then
  redis.call('PEXPIRE', KEYS[1], '7776000000')
end
local reply = {tonumber(version), now_us, tonumber(redis.call('HGET', KEYS[1], 'b'))}
if version == ARGV[1] or ARGV[2] == 'V' then
  return reply
end
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local field = fields[i]
  if string.sub(field, 1, 1) == '=' then
    local stored = fields[i + 1]
    local colon = string.find(stored, ':', 1, true)
    local expires_us = tonumber(string.sub(stored, 1, colon - 1))
    if expires_us > 0 and expires_us <= now_us then
      redis.call('HDEL', KEYS[1], field)
    else
      reply[#reply + 1] = string.sub(field, 2)
      reply[#reply + 1] = expires_us
      reply[#reply + 1] = string.sub(stored, colon + 1)
    end
  end
end
return reply
