-- Read new entries of the streams into the queues of their keys. What no target's status wants is acknowledged at once.
--
-- ARGV  4 how many at most   5 most ready keys   6 most queued entries   7… unwanted statuses
--
-- Returns how many were read, how many of them queued, their bytes, and 1 if there may be more to read.

local count = tonumber(ARGV[4])
local is_unwanted = {}
for i = 7, #ARGV do is_unwanted[ARGV[i]] = true end

local function is_full()
  return redis.call('ZCOUNT', SLOTS, '-inf', number(NOW)) >= tonumber(ARGV[5])
    or redis.call('ZCARD', QUEUE) >= tonumber(ARGV[6])
end

if is_full() then
  -- Reading its history, behind the last possible id, shows that the consumer lives.
  for i = 1, 3 do
    redis.call('XREADGROUP', 'GROUP', GROUP, CONSUMER, 'COUNT', 1, 'STREAMS', KEYS[i], '18446744073709551615-0')
  end
  return { 0, 0, 0, 0 }
end

local read, queued, size = 0, 0, 0
local reply = redis.call(
  'XREADGROUP', 'GROUP', GROUP, CONSUMER, 'COUNT', count, 'STREAMS', KEYS[1], KEYS[2], KEYS[3], '>', '>', '>'
)
local full = false
for _, stream in ipairs(reply or {}) do
  local letter = LETTERS[stream[1]]
  full = full or #stream[2] >= count
  for _, item in ipairs(stream[2]) do
    local entry, fields = NAMES[letter] .. item[1], item[2]
    read = read + 1
    size = size + size_of(fields)
    if is_unwanted[field(fields, 'status') or ''] and (field(fields, 'handler') or '') == '' then
      acknowledge(entry)
    else
      local key = key_of(fields, entry)
      local is_first = not head(key)
      redis.call('ZADD', QUEUE, 0, member(key, entry))
      if is_first then derive(key, NOW, entry) end
      queued = queued + 1
    end
  end
end
if queued > 0 then redis.call('PUBLISH', KEYS[11], '') end
return { read, queued, size, full and 1 or 0 }
