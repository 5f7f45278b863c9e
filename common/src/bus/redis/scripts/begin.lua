-- How a publish that takes an offset begins, whatever its topic keeps.
-- KEYS: 1 epoch of the partition, 2 meta, 3 history, 4 channel, 5 result of the idempotency key
-- ARGV: 1 envelope, 2 message id, 3 a new epoch, 4 count, 5 bytes, 6 age (ms; 0: none), 7 age of meta (ms),
--       8 what the topic keeps (w messages, v values) and the time in tenths of an age,
--       9 age of the idempotency key (ms; 0: there is none), 10 the id's check
-- Answers: repeated (0 or 1), epoch, offset, nodes[, check].
if ARGV[9] ~= '0' then
  local known = redis.call('GET', KEYS[5])
  if known then
    -- A write, so that the WAIT behind it waits for what the first try wrote, by whichever connection that was.
    redis.call('PEXPIRE', KEYS[5], ARGV[9])
    local epoch, offset, nodes, check = string.match(known, '([^:]*):([^:]*):([^:]*):([^:]*)')
    return {1, epoch, offset, nodes, check}
  end
end
local meta = redis.call('HMGET', KEYS[2], 'e', 'o', 't', 'b', 'x', 's', 'l')
local epoch = meta[1]
if not epoch then
  epoch = redis.call('GET', KEYS[1])
  if not epoch then
    epoch = ARGV[3]
    redis.call('SET', KEYS[1], epoch)
  end
end
local offset = string.format('%.0f', (tonumber(meta[2]) or 0) + 1)
local size = #ARGV[1]
-- Whether the topic kept the same before: where its policy was changed, or meta was forgotten or evicted, nothing of before
-- may stay.
local mine = meta[1] and string.sub(meta[3] or '', 1, 1) == string.sub(ARGV[8], 1, 1)
-- Ages count by Redis's clock, which is the same for who writes and who reads.
local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
local id = offset .. '-0'
