-- How the spool is; where it is empty, this node's permit to store directly holds on.
-- KEYS: 1 entries, 2 state, 3 permits
-- ARGV: 1 this node's permit, 2 age of a permit (ms)
-- Answers: entries, notifications, age of the oldest entry (ms)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now))
local entries = redis.call('XLEN', KEYS[1])
if entries == 0 then
  redis.call('ZADD', KEYS[3], string.format('%.0f', now + ARGV[2]), ARGV[1])
  return {0, 0, 0}
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1]
local age = now - tonumber(string.match(first, '^%d+'))
return {entries, tonumber(redis.call('HGET', KEYS[2], 'count') or '0'), math.max(age, 0)}
