-- Read some ids of an index in their order. Twin: MemorySessions.page.
--
-- KEYS[1]  index: sorted set of session ids, all with the score 0
-- ARGV[1]  cursor: only ids above it; "" for the beginning
-- ARGV[2]  limit, 0 or more
-- Returns  {how many ids the index holds, id, id, ...}
local from = '-'
if ARGV[1] ~= '' then
  from = '(' .. ARGV[1]
end
local ids = {}
if ARGV[2] ~= '0' then
  ids = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, ARGV[2])
end
table.insert(ids, 1, redis.call('ZCARD', KEYS[1]))
return ids
