-- Put session ids into an index (of a user, of an instance) and take others out.
-- Twin: MemorySessions.write and remove.
--
-- KEYS[1]  index: sorted set of session ids, all with the score 0, so that it is read in their order
-- ARGV[1]  ttl_ms of the whole index, milliseconds, 1 or more; it is only ever made longer
-- ARGV[2]  how many of the ids that follow come in; the rest goes out
-- ARGV[3..] ids
-- Returns  how many ids the index holds now
local coming = tonumber(ARGV[2])
for at = 3, 2 + coming do
  redis.call('ZADD', KEYS[1], 0, ARGV[at])
end
for at = 3 + coming, #ARGV do
  redis.call('ZREM', KEYS[1], ARGV[at])
end
if coming > 0 then
  local ttl_ms = tonumber(ARGV[1])
  if redis.call('PTTL', KEYS[1]) < ttl_ms then
    redis.call('PEXPIRE', KEYS[1], ttl_ms)
  end
end
return redis.call('ZCARD', KEYS[1])
