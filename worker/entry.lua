-- One entry of the group, from its first start to its acknowledgement. The delivery state is a hash: of each handler how often
-- it was started, the last attempt and its consumer, or `ended`; if it waits for a retry, the attempt is followed by @ and the
-- time until which no other worker may start it. Every operation may be repeated. With the acknowledgement the entry leaves
-- its queue (ordering.lua), and the next one goes to the worker where the last handler has ended: it learns of that end anyway,
-- and hands out what follows at once. A replay that no group needs any more is deleted.
--
-- KEYS  … of ordering.lua · delivery state · dead · what precedes the name of a live worker
-- ARGV  1 group   2 operation   3 entry   then
--   open    4 lifetime of the delivery state (s)   5… those that want it
--           Returns those of them that have not ended and do not wait for a retry, those that have not ended and do not want
--           it any more, and how many wait. If nothing is left the entry is acknowledged.
--   start   4 lifetime of the delivery state (s)   5 handler   6 consumer   7 attempt
--           Returns which start of the handler this is, 0 when it has ended. The same attempt is the same start, however often
--           it asks because its reply was lost. The entry is that consumer's from now on.
--   pause   4 handler   5 for how long only the arranged retry may start it (ms)
--   finish  4 handler, or '' for all of them
--           Returns 1 when with it the entry was acknowledged.
--   dead_letter    4 handler   5 longest age of a dead letter (s)   6… fields of the dead letter
--           Returns 1 when the dead letter was written. Ends the handler; with no handler ('') the entry as a whole.

local operation, entry = ARGV[2], ARGV[3]
local states_key, dead, worker = KEYS[4], KEYS[5], KEYS[6]
-- Milliseconds. Longer than any takeover waits: the next worker that looks may take it.
local LONG_SILENT = 86400000

-- An entry that is not pending was acknowledged, unless trimming took it: then its task is all that is left of it.
local function is_acknowledged()
  return not owner(entry) and (place(entry) == REPLAYS or read(entry) ~= nil)
end

local function has_ended(handler)
  if is_acknowledged() then return true end
  return redis.call('HGET', states_key, handler) == 'ended'
end

-- One that is leaving begins nothing any more; see worker/identity.py.
local function is_working(consumer)
  local said = redis.call('GET', worker .. consumer)
  return said and not string.find(said, '^leaving')
end

local function pass_on(eval_id, successor)
  local following, whose = first(eval_id)
  if not following then return end
  if not is_working(successor) then
    give(following, whose, 'IDLE', LONG_SILENT, 'JUSTID')
  elseif whose ~= successor then
    give(following, successor, 'JUSTID')
  end
end

local function leave(successor)
  local eval_id, whose = evaluation(read(entry)), owner(entry)
  local was_first = eval_id and first(eval_id) == entry
  local count = acknowledge(entry)
  if eval_id then
    local before = queue_of(eval_id)
    local entries = without(before, entry)
    if entries ~= before then keep(eval_id, entries) end
    if was_first and entries ~= '' then pass_on(eval_id, successor or whose) end
  end
  return count
end

local function finish(handler)
  local states = redis.call('HGETALL', states_key)
  local successor
  for i = 1, #states, 2 do
    if states[i] == handler then
      successor = string.match(states[i + 1], '^%d+ %S+ (.+)$')
    elseif handler ~= '' and states[i + 1] ~= 'ended' then
      redis.call('HSET', states_key, handler, 'ended')
      return 0
    end
  end
  redis.call('DEL', states_key)
  return leave(successor)
end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

if operation == 'open' then
  if not owner(entry) then return { {}, {}, 0 } end
  local left, unknown, wanted, waiting = {}, {}, {}, 0
  for i = 5, #ARGV do
    wanted[ARGV[i]] = true
    redis.call('HSETNX', states_key, ARGV[i], 0)
  end
  redis.call('EXPIRE', states_key, ARGV[4])
  local states = redis.call('HGETALL', states_key)
  for i = 1, #states, 2 do
    local until_when = string.match(states[i + 1], '^%d+ %S+@(%d+) ')
    if wanted[states[i]] and until_when and tonumber(until_when) > now() then
      waiting = waiting + 1
    elseif states[i + 1] ~= 'ended' then
      local list = wanted[states[i]] and left or unknown
      list[#list + 1] = states[i]
    end
  end
  if #left == 0 and #unknown == 0 and waiting == 0 then finish('') end
  return { left, unknown, waiting }
elseif operation == 'start' then
  if has_ended(ARGV[5]) then return 0 end
  local start, attempt = string.match(redis.call('HGET', states_key, ARGV[5]) or '', '^(%d+) ?(%S*)')
  start = tonumber(start or 0)
  if attempt ~= ARGV[7] then
    start = start + 1
    redis.call('HSET', states_key, ARGV[5], start .. ' ' .. ARGV[7] .. ' ' .. ARGV[6])
  end
  redis.call('EXPIRE', states_key, ARGV[4])
  if owner(entry) then give(entry, ARGV[6], 'JUSTID') end
  return start
elseif operation == 'pause' then
  local start, attempt, consumer = string.match(redis.call('HGET', states_key, ARGV[4]) or '', '^(%d+) ([^ @]+)%S* (.+)$')
  if start then
    redis.call('HSET', states_key, ARGV[4], string.format('%s %s@%.0f %s', start, attempt, now() + ARGV[5], consumer))
  end
  return 0
elseif operation == 'finish' then
  return finish(ARGV[4])
elseif operation == 'dead_letter' then
  if has_ended(ARGV[4]) then return 0 end
  local oldest = (redis.call('TIME')[1] - ARGV[5]) * 1000
  redis.call('XADD', dead, 'MINID', '~', string.format('%.0f-0', math.max(oldest, 0)), '*', unpack(ARGV, 6))
  finish(ARGV[4])
  return 1
end
return redis.error_reply('no operation ' .. operation)
