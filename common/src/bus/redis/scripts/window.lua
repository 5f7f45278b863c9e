-- A topic that keeps its newest messages. In meta: b, the sum of all sizes; x, the largest.
local total = (mine and tonumber(meta[4]) or 0) + size
local largest = math.max(mine and tonumber(meta[5]) or 0, size)
redis.call('HSET', KEYS[2], 'e', epoch, 'o', offset, 'i', ARGV[2], 't', ARGV[8],
  'b', string.format('%.0f', total), 'x', largest)
if not mine then
  redis.call('DEL', KEYS[3])
end
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
