-- Forget what one key has spent, and that it is blocked.
--
-- KEYS[1]  where it counts
-- KEYS[2]  where its block is kept
-- Returns  how many of the two there were
return redis.call("UNLINK", KEYS[1], KEYS[2])
