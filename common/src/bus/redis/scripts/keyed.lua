-- A publish without history, with an idempotency key.
-- KEYS: 1 channel, 2 result of the idempotency key
-- ARGV: 1 envelope, 2 age of the idempotency key (ms)
-- Answers: repeated (0 or 1), '', 0, nodes.
local known = redis.call('GET', KEYS[2])
if known then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  return {1, '', 0, known}
end
-- Kept first: what cannot be written must not be published.
redis.call('SET', KEYS[2], '0', 'PX', ARGV[2])
local nodes = redis.call('SPUBLISH', KEYS[1], ' ' .. ARGV[1])
redis.call('SET', KEYS[2], nodes, 'PX', ARGV[2])
return {0, '', 0, nodes}
