-- Forget what one key has spent.
--
-- KEYS[1]  where it counts
-- Returns  1 if something was forgotten, else 0
return redis.call("UNLINK", KEYS[1])
