-- The ends of topics of one partition.
-- KEYS: 1 epoch of the partition, then the meta of each topic
-- ARGV: 1 a new epoch, 2 age of meta (ms)
-- Answers for each topic: epoch, offset, id of the last message ('' where there is none).
local begin = redis.call('GET', KEYS[1])
if not begin then
  begin = ARGV[1]
  redis.call('SET', KEYS[1], begin)
end
local heads = {}
for place = 2, #KEYS do
  local meta = redis.call('HMGET', KEYS[place], 'e', 'o', 'i')
  if meta[1] and redis.call('PTTL', KEYS[place]) < ARGV[2] / 2 then
    -- Whoever compares a topic uses it.
    redis.call('PEXPIRE', KEYS[place], ARGV[2])
  end
  heads[#heads + 1] = meta[1] or begin
  heads[#heads + 1] = meta[2] or '0'
  heads[#heads + 1] = meta[3] or ''
end
return heads
