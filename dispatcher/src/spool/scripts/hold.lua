-- Holds a lease on.
-- KEYS: 1 drainer
-- ARGV: 1 fence token, 2 age of the lease (ms)
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
