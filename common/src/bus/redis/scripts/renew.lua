-- A new epoch for a topic whose tail was lost, if that is so, and the old epoch is still that which it is compared with.
-- KEYS: 1 epoch of the partition, 2 meta, 3 history, 4 where each value stands
-- ARGV: 1 the old epoch, 2 the offset up to which all was read, 3 the new epoch, 4 age of meta (ms), 5 id of the message there
-- Answers: epoch, offset, id of the last message.
local meta = redis.call('HMGET', KEYS[2], 'e', 'o', 'i')
local epoch = meta[1] or redis.call('GET', KEYS[1])
local last, least = tonumber(meta[2]) or 0, tonumber(ARGV[2])
local unchanged = {epoch or ARGV[3], meta[2] or '0', meta[3] or ''}
if epoch and epoch ~= ARGV[1] then return unchanged end
if meta[1] and last == least and meta[3] == ARGV[5] then return unchanged end
if meta[1] and last > least then
  -- Who asked may have asked a server that was behind. What cannot be compared any more proves no loss.
  local entry = redis.call('XRANGE', KEYS[3], ARGV[2] .. '-0', ARGV[2] .. '-0')[1]
  if not entry or string.find(entry[2][2], ARGV[5], 1, true) then return unchanged end
end
local offset = string.format('%.0f', math.max(last, least))
redis.call('HSET', KEYS[2], 'e', ARGV[3], 'o', offset, 'l', offset, 's', '0')
redis.call('HDEL', KEYS[2], 'i', 't')
redis.call('DEL', KEYS[3], KEYS[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {ARGV[3], offset, ''}
