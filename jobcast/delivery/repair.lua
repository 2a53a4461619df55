-- Compares what is pending with what is queued: what is queued nowhere is queued, what is queued and not pending was ended.
--
-- ARGV  4 stream (e, r, s)   5 id from which to look, or 'queue'   6 cursor in the queue   7 how many
--
-- Returns where to go on ('' or '0': it is done), and how many were repaired.

local count = tonumber(ARGV[7])
if ARGV[5] ~= 'queue' then
  local stream = ({ e = KEYS[1], r = KEYS[2], s = KEYS[3] })[ARGV[4]]
  local pending, repaired, last = redis.call('XPENDING', stream, GROUP, '(' .. ARGV[5], '+', count), 0, ''
  for _, item in ipairs(pending) do
    local entry = NAMES[ARGV[4]] .. item[1]
    local fields = body_of(entry)
    if not fields then
      acknowledge(entry)
      repaired = repaired + 1
    else
      local key = key_of(fields, entry)
      if redis.call('ZADD', QUEUE, 0, member(key, entry)) == 1 then repaired = repaired + 1 end
      derive(key)
    end
    last = item[1]
  end
  return { #pending < count and '' or last, repaired }
end
local reply, repaired = redis.call('ZSCAN', QUEUE, ARGV[6], 'COUNT', count), 0
for i = 1, #reply[2], 2 do
  local queued = reply[2][i]
  local entry = entry_of(queued)
  local stream, id = place(entry)
  if #redis.call('XPENDING', stream, GROUP, id, id, 1) == 0 then
    redis.call('ZREM', QUEUE, queued)
    redis.call('DEL', TRIES .. entry)
    derive(string.match(queued, '^(%x+)/'))
    repaired = repaired + 1
  end
end
return { reply[1], repaired }
