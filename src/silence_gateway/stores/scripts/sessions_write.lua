-- Write one session's record. Twin: MemorySessions.write.
--
-- KEYS[1]  record: string
-- ARGV[1]  ttl_ms, milliseconds, 1 or more
-- ARGV[2]  the record, JSON
-- Returns  1
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
return 1
