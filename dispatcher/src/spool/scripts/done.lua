-- Takes out what is committed, if this is still the drainer.
-- KEYS: 1 entries, 2 state, 3 drainer, 4 outcomes, 5 aside, 6 closing, 7… idempotency keys, which the database has from now on
-- ARGV: 1 fence token, 2 age of the lease (ms), 3 how long the keys stay for requests on their way (ms), 4 notifications,
--       5 bytes, 6 `aside` to keep the entries elsewhere, 7 why, 8 number of entries, then their ids, then the deliveries
--       whose outcomes have been used
-- Answers: 0: another one is the drainer, nothing was done; else 1
if redis.call('GET', KEYS[3]) ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[3], ARGV[2])
local gone = 0
local last = 8 + tonumber(ARGV[8])
for at = 9, last do
  if ARGV[6] == 'aside' then
    for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[at], ARGV[at])) do
      local fields = entry[2]
      fields[#fields + 1] = 'why'
      fields[#fields + 1] = ARGV[7]
      redis.call('XADD', KEYS[5], '*', unpack(fields))
    end
  end
  gone = gone + redis.call('XDEL', KEYS[1], ARGV[at])
end
if gone > 0 then
  redis.call('HINCRBY', KEYS[2], 'count', 0 - ARGV[4])
  redis.call('HINCRBY', KEYS[2], 'bytes', 0 - ARGV[5])
end
for at = 7, #KEYS do
  redis.call('PEXPIRE', KEYS[at], ARGV[3])
end
for at = last + 1, #ARGV do
  redis.call('HDEL', KEYS[4], ARGV[at])
end
if redis.call('XLEN', KEYS[1]) == 0 then
  -- Streams that were emptied stay; their last id keeps new ones in order.
  redis.call('DEL', KEYS[2], KEYS[4], KEYS[6])
end
return 1
