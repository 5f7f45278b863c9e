-- A new epoch for a topic whose tail was lost, if the old one is still that which it is compared with.
-- KEYS: 1 epoch of the partition, 2 meta, 3 history, 4 where each value stands
-- ARGV: 1 the old epoch, 2 the least offset to go on from, 3 the new epoch, 4 age of meta (ms)
-- Answers: epoch, offset, id of the last message.
local meta = redis.call('HMGET', KEYS[2], 'e', 'o', 'i')
local epoch = meta[1] or redis.call('GET', KEYS[1])
if epoch and epoch ~= ARGV[1] then
  return {epoch, meta[2] or '0', meta[3] or ''}
end
local offset = string.format('%.0f', math.max(tonumber(meta[2]) or 0, tonumber(ARGV[2])))
redis.call('HSET', KEYS[2], 'e', ARGV[3], 'o', offset, 'l', offset, 's', '0')
redis.call('HDEL', KEYS[2], 'i', 't')
redis.call('DEL', KEYS[3], KEYS[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {ARGV[3], offset, ''}
