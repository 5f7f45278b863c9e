-- Takes a request's notifications as one entry, or says why not.
-- KEYS: 1 entries, 2 state, 3 permits, 4 closing, 5… the idempotency keys of the request, each once
-- ARGV: 1 `open` or `behind`, 2 this node, 3 its permit, 4 age of a permit (ms), 5 notifications that the spool may hold,
--       6 bytes that it may hold, 7 age of an idempotency key (ms), 8 number of notifications, then for each of them its text,
--       the number of its keys, and for each key its number in KEYS, 1 where it is the request's own, the hash of the
--       request, and the answer to repeat.
-- Answers: {'closed'}, {'wait'} (the drainer is about to take out the last ones; ask again in a moment), {'full'}, or {'taken', permits that other nodes hold, for each notification '' (new), '?' (the key was
-- used for another request) or '=' and the answer to repeat}.
-- Whatever it finds it writes something, so that the WAIT behind it waits for what a try before wrote by another connection.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] == 'behind' and redis.call('XLEN', KEYS[1]) == 0 then
  redis.call('ZADD', KEYS[3], string.format('%.0f', now + ARGV[4]), ARGV[3])
  return {'closed'}
end
if ARGV[1] == 'behind' and redis.call('EXISTS', KEYS[4]) == 1 then
  return {'wait'}
end
local known, own, texts, answers, taken = {}, {}, {}, {}, {}
local bytes, at = 0, 9
for number = 1, tonumber(ARGV[8]) do
  local text, keys, answer = ARGV[at], tonumber(ARGV[at + 1]), ''
  at = at + 2
  for key = 0, keys - 1 do
    local base = at + key * 4
    local name = KEYS[tonumber(ARGV[base])]
    if known[name] == nil then
      known[name] = redis.call('GET', name)
    end
    -- A request's own key stands on each of its notifications.
    if known[name] and answer == '' and not (own[name] and ARGV[base + 1] == '1') then
      redis.call('PEXPIRE', name, ARGV[7])
      local hash, told = string.match(known[name], '^(%x*) (.*)$')
      answer = hash == ARGV[base + 2] and '=' .. told or '?'
    end
  end
  if answer == '' then
    for key = 0, keys - 1 do
      local base = at + key * 4
      local name = KEYS[tonumber(ARGV[base])]
      if not known[name] then
        known[name] = ARGV[base + 2] .. ' ' .. ARGV[base + 3]
        own[name] = ARGV[base + 1] == '1'
        taken[#taken + 1] = name
      end
    end
    texts[#texts + 1] = text
    bytes = bytes + #text
  end
  at = at + keys * 4
  answers[number] = answer
end
if #texts > 0 then
  local held = redis.call('HMGET', KEYS[2], 'count', 'bytes')
  if (tonumber(held[1]) or 0) + #texts > tonumber(ARGV[5])
      or (tonumber(held[2]) or 0) + bytes > tonumber(ARGV[6]) then
    return {'full'}
  end
  for _, name in ipairs(taken) do
    redis.call('SET', name, known[name], 'PX', ARGV[7])
  end
  redis.call('HINCRBY', KEYS[2], 'count', #texts)
  redis.call('HINCRBY', KEYS[2], 'bytes', bytes)
  redis.call('XADD', KEYS[1], '*', 'v', '1', 'c', #texts, 'n', table.concat(texts, '\n'))
end
local others = 0
for _, permit in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], string.format('(%.0f', now), '+inf')) do
  if string.sub(permit, 1, #ARGV[2] + 1) ~= ARGV[2] .. '/' then
    others = others + 1
  end
end
return {'taken', others, unpack(answers)}
