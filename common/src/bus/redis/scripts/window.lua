-- A publish to a topic that keeps its newest messages.
-- KEYS: 1 epoch of the partition, 2 meta, 3 history, 4 channel, 5 result of the idempotency key
-- ARGV: 1 envelope, 2 message id, 3 a new epoch, 4 count, 5 bytes, 6 age of history (ms), 7 age of meta (ms),
--       8 'w' and the time in tenths of the history's age, 9 age of the idempotency key (ms; 0: there is none), 10 the id's check
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
local meta = redis.call('HMGET', KEYS[2], 'e', 'o', 't', 'b', 'x')
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
-- 't' begins with what the topic keeps: w, or v where it kept values before its policy was changed.
local mine = meta[1] and string.sub(meta[3] or '', 1, 1) == 'w'
local total = (mine and tonumber(meta[4]) or 0) + size
local largest = math.max(mine and tonumber(meta[5]) or 0, size)
redis.call('HSET', KEYS[2], 'e', epoch, 'o', offset, 'i', ARGV[2], 't', ARGV[8],
  'b', string.format('%.0f', total), 'x', largest)
if not mine then
  -- Meta was forgotten or evicted, so that offsets begin anew, or the policy is another: nothing of before may stay.
  redis.call('DEL', KEYS[3])
end
-- Ages count by Redis's clock, which is the same for who writes and who reads.
local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
local id = offset .. '-0'
redis.call('XADD', KEYS[3], 'MAXLEN', '=', ARGV[4], id, 'm', ARGV[1], 'b', string.format('%.0f', total),
  'a', now)
if meta[3] ~= ARGV[8] or redis.call('XLEN', KEYS[3]) == 1 then
  -- Once in a tenth of its age is often enough; a history that begins anew, after an eviction, has no end yet.
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
  redis.call('PEXPIRE', KEYS[3], string.format('%.0f', ARGV[6] * 1.1))
end
local bytes = tonumber(ARGV[5])
if largest * ARGV[4] > bytes then
  -- Only here can history be larger than it may. 'b' is the sum of all sizes up to and with an entry.
  while true do
    local first = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)[1]
    if not first or first[1] == id then break end
    if total - tonumber(first[2][4]) + #first[2][2] <= bytes then break end
    redis.call('XDEL', KEYS[3], first[1])
  end
end
local nodes = redis.call('SPUBLISH', KEYS[4], epoch .. ':' .. offset .. ' ' .. ARGV[1])
if ARGV[9] ~= '0' then
  redis.call('SET', KEYS[5], epoch .. ':' .. offset .. ':' .. nodes .. ':' .. ARGV[10], 'PX', ARGV[9])
end
return {0, epoch, offset, nodes}
