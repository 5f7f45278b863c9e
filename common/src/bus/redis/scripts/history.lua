-- What can be read again of a topic.
-- KEYS: 1 epoch of the partition, 2 meta, 3 history
-- ARGV: 1 after this offset, 2 at most so many, 3 a new epoch
-- Answers: epoch, offset, id of the last message, highest offset that a last-value topic lost, entries, Redis's time (ms).
local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
local meta = redis.call('HMGET', KEYS[2], 'e', 'o', 'i', 'l')
local epoch = meta[1]
if not epoch then
  epoch = redis.call('GET', KEYS[1])
  if not epoch then
    epoch = ARGV[3]
    redis.call('SET', KEYS[1], epoch)
  end
  return {epoch, '0', '', '0', {}, now}
end
local entries = redis.call('XRANGE', KEYS[3], '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])
local lost = meta[4] or '0'
if #entries == 0 and redis.call('EXISTS', KEYS[3]) == 0 then
  lost = meta[2] or '0'
end
return {epoch, meta[2] or '0', meta[3] or '', lost, entries, now}
