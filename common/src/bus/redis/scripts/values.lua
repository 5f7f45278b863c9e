-- A publish to a topic that keeps the newest value of each key.
-- KEYS: 1 epoch of the partition, 2 meta, 3 history, 4 channel, 5 result of the idempotency key, 6 where each value stands
-- ARGV: 1 envelope, 2 message id, 3 a new epoch, 4 count of keys, 5 bytes, 6 age of values (ms; 0: none), 7 age of meta (ms),
--       8 'v' and the time in tenths of an age, 9 age of the idempotency key (ms; 0: there is none), 10 the id's check, 11 the value's key
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
local meta = redis.call('HMGET', KEYS[2], 'e', 'o', 't', 's', 'l')
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
local sum = tonumber(meta[4]) or 0
local lost = meta[5] or '0'
redis.call('HSET', KEYS[2], 'e', epoch, 'o', offset, 'i', ARGV[2], 't', ARGV[8])
-- 't' begins with what the topic keeps: v, or w where it kept messages before its policy was changed.
local mine = string.sub(meta[3] or '', 1, 1) == 'v'
if meta[1] and not (mine and redis.call('EXISTS', KEYS[3]) == 1) then
  -- All values have gone, with their age or by eviction, or there were none.
  sum = 0
  lost = meta[2] or '0'
  redis.call('DEL', KEYS[3], KEYS[6])
elseif not meta[1] then
  sum = 0
  redis.call('DEL', KEYS[3], KEYS[6])
end
-- Ages count by Redis's clock, which is the same for who writes and who reads.
local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
local id = offset .. '-0'
local before = redis.call('HGET', KEYS[6], ARGV[11])
redis.call('XADD', KEYS[3], id, 'm', ARGV[1], 'k', ARGV[11], 'a', now)
redis.call('HSET', KEYS[6], ARGV[11], offset .. ':' .. size)
sum = sum + size
if before then
  local place, old = string.match(before, '(%d+):(%d+)')
  redis.call('XDEL', KEYS[3], place .. '-0')
  sum = sum - old
end
while redis.call('XLEN', KEYS[3]) > tonumber(ARGV[4]) or sum > tonumber(ARGV[5]) do
  local first = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)[1]
  if not first or first[1] == id then break end
  redis.call('XDEL', KEYS[3], first[1])
  redis.call('HDEL', KEYS[6], first[2][4])
  sum = sum - #first[2][2]
  lost = string.match(first[1], '%d+')
end
redis.call('HSET', KEYS[2], 's', string.format('%.0f', sum), 'l', lost)
if meta[3] ~= ARGV[8] or redis.call('XLEN', KEYS[3]) == 1 then
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
  local age = tonumber(ARGV[6])
  if age == 0 then age = ARGV[7] else age = string.format('%.0f', age * 1.1) end
  redis.call('PEXPIRE', KEYS[3], age)
  redis.call('PEXPIRE', KEYS[6], age)
end
local nodes = redis.call('SPUBLISH', KEYS[4], epoch .. ':' .. offset .. ' ' .. ARGV[1])
if ARGV[9] ~= '0' then
  redis.call('SET', KEYS[5], epoch .. ':' .. offset .. ':' .. nodes .. ':' .. ARGV[10], 'PX', ARGV[9])
end
return {0, epoch, offset, nodes}
