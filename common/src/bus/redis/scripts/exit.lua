-- Users are on a node no more.
-- KEYS: 1 how many nodes have each user, 2 nodes that have users, 3 users of the node
-- ARGV: 1 node, then the users
-- Answers: users who are on no node now.
local left = {}
for place = 2, #ARGV do
  if redis.call('SREM', KEYS[3], ARGV[place]) == 1
    and redis.call('HINCRBY', KEYS[1], ARGV[place], -1) <= 0 then
    redis.call('HDEL', KEYS[1], ARGV[place])
    left[#left + 1] = ARGV[place]
  end
end
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('SREM', KEYS[2], ARGV[1])
end
return left
