-- A topic that keeps the newest value of each key. In meta: s, the sum of their sizes; l, the highest offset that was lost.
-- KEYS: 6 where each value stands. ARGV: 11 the value's key
local sum = tonumber(meta[6]) or 0
local lost = meta[7] or '0'
redis.call('HSET', KEYS[2], 'e', epoch, 'o', offset, 'i', ARGV[2], 't', ARGV[8])
if meta[1] and not (mine and redis.call('EXISTS', KEYS[3]) == 1) then
  -- All values have gone, with their age or by eviction, or there were none.
  sum = 0
  lost = meta[2] or '0'
  redis.call('DEL', KEYS[3], KEYS[6])
elseif not meta[1] then
  sum = 0
  redis.call('DEL', KEYS[3], KEYS[6])
end
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
