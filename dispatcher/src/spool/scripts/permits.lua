-- Gives a permit back, where one is named.
-- KEYS: 1 permits
-- ARGV: 1 this node, 2 the permit to give back, or nothing
-- Answers: permits that other nodes hold
if ARGV[2] ~= '' then
  redis.call('ZREM', KEYS[1], ARGV[2])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local others = 0
for _, permit in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')) do
  if string.sub(permit, 1, #ARGV[1] + 1) ~= ARGV[1] .. '/' then
    others = others + 1
  end
end
return others
