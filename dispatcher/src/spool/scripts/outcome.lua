-- What became of frames that went out before their deliveries are stored.
-- KEYS: 1 entries, 2 outcomes
-- ARGV: delivery, outcome, …
if redis.call('XLEN', KEYS[1]) > 0 then
  for at = 1, #ARGV, 2 do
    redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  end
end
return 0
