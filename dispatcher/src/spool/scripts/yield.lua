-- Ends a lease early.
-- KEYS: 1 drainer
-- ARGV: 1 fence token
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 0
