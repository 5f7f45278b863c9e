-- The oldest entries, for the drainer alone, whose lease holds on. Where these are all, what would queue behind them is held up
-- for a moment, so that under load, too, there comes an end.
-- KEYS: 1 entries, 2 drainer, 3 closing
-- ARGV: 1 fence token, 2 age of the lease (ms), 3 notifications at the most, 4 bytes at the most (one entry at least),
--       5 for how long at the most others are held up (ms; 0: not at all)
-- Answers: nothing where another one is the drainer, else the list of entries: id, version, text
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return false
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local found, count, bytes, start = {}, 0, 0, '-'
while true do
  local part = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', 16)
  for _, entry in ipairs(part) do
    local fields = {}
    for field = 1, #entry[2] - 1, 2 do
      fields[entry[2][field]] = entry[2][field + 1]
    end
    local text = fields['n'] or ''
    count = count + (tonumber(fields['c']) or 1)
    bytes = bytes + #text
    if #found > 0 and (count > tonumber(ARGV[3]) or bytes > tonumber(ARGV[4])) then
      return found
    end
    found[#found + 1] = {entry[1], fields['v'] or '', text, fields['c'] or '1'}
    start = '(' .. entry[1]
  end
  if #part < 16 then
    if #found > 0 and ARGV[5] ~= '0' then
      redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[5])
    end
    return found
  end
end
