-- Becomes the drainer, where there is none.
-- KEYS: 1 drainer, 2 fence
-- ARGV: 1 age of the lease (ms)
-- Answers: the fence token, which grows with each lease; 0: another one is the drainer
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token, 'PX', ARGV[1])
return token
