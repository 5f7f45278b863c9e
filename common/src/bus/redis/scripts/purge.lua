-- Takes users of a node that has gone out, some at a time.
-- KEYS: 1 how many nodes have each user, 2 nodes that have users, 3 users of the node
-- ARGV: 1 node, 2 at most so many
-- Answers: whether there are more (0 or 1), users who are on no node now.
local left = {}
for _, user in ipairs(redis.call('SPOP', KEYS[3], ARGV[2])) do
  if redis.call('HINCRBY', KEYS[1], user, -1) <= 0 then
    redis.call('HDEL', KEYS[1], user)
    left[#left + 1] = user
  end
end
local more = redis.call('EXISTS', KEYS[3])
if more == 0 then
  redis.call('SREM', KEYS[2], ARGV[1])
end
return {more, left}
