-- Users are on a node.
-- KEYS: 1 how many nodes have each user, 2 nodes that have users, 3 users of the node
-- ARGV: 1 node, 2 age of what nobody says again (ms), then the users
-- Answers: users who were on no node, nodes that have users.
local joined = {}
for place = 3, #ARGV do
  if redis.call('SADD', KEYS[3], ARGV[place]) == 1
    and redis.call('HINCRBY', KEYS[1], ARGV[place], 1) == 1 then
    joined[#joined + 1] = ARGV[place]
  end
end
redis.call('SADD', KEYS[2], ARGV[1])
for place = 1, 3 do
  redis.call('PEXPIRE', KEYS[place], ARGV[2])
end
return {joined, redis.call('SMEMBERS', KEYS[2])}
