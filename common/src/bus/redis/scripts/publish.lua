-- How it ends: the message goes out, and its result is kept for those who repeat it.
local nodes = redis.call('SPUBLISH', KEYS[4], epoch .. ':' .. offset .. ' ' .. ARGV[1])
if ARGV[9] ~= '0' then
  redis.call('SET', KEYS[5], epoch .. ':' .. offset .. ':' .. nodes .. ':' .. ARGV[10], 'PX', ARGV[9])
end
return {0, epoch, offset, nodes}
