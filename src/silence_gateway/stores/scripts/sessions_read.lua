-- Read, or read and forget, one session's record. Twin: MemorySessions.get.
--
-- KEYS[1]  record: string
-- ARGV[1]  1 to forget it as well, else 0
-- Returns  the record, JSON, or ""
local record = redis.call('GET', KEYS[1])
if ARGV[1] == '1' then
  redis.call('DEL', KEYS[1])
end
return record or ''
