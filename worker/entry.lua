-- One stream entry of the group, from its first start to its acknowledgement. `todo` is a hash: of each handler how often
-- it was started and the attempt that was the last to do so, or `ended`. Every operation may be called again, by a twin as well.
--
-- KEYS  events · todo · dead
-- ARGV  1 operation   2 group   3 entry   then
--   open    4 how long todo may live (s)   5… those who want it
--           Returns those of them who have not ended, and those who have not and do not want it any more.
--           With nobody left the entry is acknowledged.
--   start   4 todo's life (s)   5 handler   6 consumer   7 attempt
--           Returns which start of the handler this is, 0 when it has ended. The same attempt is the same start, however often
--           it asks because its reply was lost. The entry is that consumer's from now on.
--   finish  4 handler
--           Returns 1 when with it the entry was acknowledged.
--   bury    4 handler   5 longest age of a dead letter (s)   6… fields of the dead letter
--           Returns 1 when the letter was written. Ends the handler; with no handler ('') the entry as a whole.

local operation, group, entry = ARGV[1], ARGV[2], ARGV[3]
local events, todo, dead = KEYS[1], KEYS[2], KEYS[3]

local function is_pending()
  return #redis.call('XPENDING', events, group, entry, entry, 1) > 0
end

-- An entry that is not pending was acknowledged, unless trimming took it: then its task is all that is left of it.
local function is_acknowledged()
  return not is_pending() and #redis.call('XRANGE', events, entry, entry) > 0
end

local function has_ended(handler)
  if is_acknowledged() then return true end
  return redis.call('HGET', todo, handler) == 'ended'
end

local function finish(handler)
  local states = redis.call('HGETALL', todo)
  for i = 1, #states, 2 do
    if handler ~= '' and states[i] ~= handler and states[i + 1] ~= 'ended' then
      redis.call('HSET', todo, handler, 'ended')
      return 0
    end
  end
  redis.call('DEL', todo)
  return redis.call('XACK', events, group, entry)
end

if operation == 'open' then
  if not is_pending() then return { {}, {} } end
  local left, strangers, wanted = {}, {}, {}
  for i = 5, #ARGV do
    wanted[ARGV[i]] = true
    redis.call('HSETNX', todo, ARGV[i], 0)
  end
  redis.call('EXPIRE', todo, ARGV[4])
  local states = redis.call('HGETALL', todo)
  for i = 1, #states, 2 do
    if states[i + 1] ~= 'ended' then
      local list = wanted[states[i]] and left or strangers
      list[#list + 1] = states[i]
    end
  end
  if #left == 0 and #strangers == 0 then finish('') end
  return { left, strangers }
elseif operation == 'start' then
  if has_ended(ARGV[5]) then return 0 end
  local start, attempt = string.match(redis.call('HGET', todo, ARGV[5]) or '', '^(%d+) ?(.*)$')
  start = tonumber(start or 0)
  if attempt ~= ARGV[7] then
    start = start + 1
    redis.call('HSET', todo, ARGV[5], start .. ' ' .. ARGV[7])
  end
  redis.call('EXPIRE', todo, ARGV[4])
  if is_pending() then redis.call('XCLAIM', events, group, ARGV[6], 0, entry, 'JUSTID') end
  return start
elseif operation == 'finish' then
  return finish(ARGV[4])
elseif operation == 'bury' then
  if has_ended(ARGV[4]) then return 0 end
  local oldest = (redis.call('TIME')[1] - ARGV[5]) * 1000
  redis.call('XADD', dead, 'MINID', '~', string.format('%.0f-0', math.max(oldest, 0)), '*', unpack(ARGV, 6))
  finish(ARGV[4])
  return 1
end
return redis.error_reply('no operation ' .. operation)
