-- The ledger's step: is this newer than what was told of this Job? Then record it, append it, publish it, all at once.
-- Otherwise say why not and change nothing. Called again after a lost reply, by another replica or after a restart it is
-- harmless. All keys are read before the first write, and the first write is one that is refused when memory is full (SET,
-- XADD or HSET): a full Redis, or a key of another type, refuses the step whole, and nothing is recorded that was not told.
--
-- KEYS  row · open · events · evaluation · epoch
-- ARGV  1 uid   2 resourceVersion   3 an epoch, in case there is none   4 retention (s)   5 stream length
--       6 created (Unix s)   7 eval_id   8 namespace   9 name   10 the Job's status: pending or one of the events'
--       then four for each event, in order: id, status, channel, JSON; the last of them is the target, the ones before
--       it are told only together with it, where they were not told yet and nothing newer of their kind was
--
-- Returns {answer, status now in the row, epoch, number of events told}.
-- Answers: told · seen (recorded, nothing to tell) · duplicate · stale (a newer version was told) · ended (it has its end)

local TERMINAL = { completed = true, failed = true, cancelled = true }
local version = tonumber(ARGV[2])
local events = (#ARGV - 10) / 4
local target = 10 + (events - 1) * 4

local epoch = redis.call('GET', KEYS[5])
local row = redis.call('HMGET', KEYS[1], 'status', 'version', 'running', 'suspended')
local status, told_version = row[1], tonumber(row[2] or '0')
local told = { running = row[3], suspended = row[4] }

local answer
if status and TERMINAL[status] then
  answer = 'ended'
elseif events == 0 then
  answer = status and 'duplicate' or 'seen'
elseif TERMINAL[ARGV[target + 2]] then
  answer = 'told'
elseif told[ARGV[target + 2]] == ARGV[target + 1] then
  answer = 'duplicate'
elseif version < told_version then
  answer = 'stale'
else
  answer = 'told'
end

if answer ~= 'told' and answer ~= 'seen' then
  return { answer, status, epoch, 0 }
end

local record = redis.call('HMGET', KEYS[4], 'uid', 'created')
redis.call('ZSCORE', KEYS[2], ARGV[1])

if not epoch then
  epoch = ARGV[3]
  redis.call('SET', KEYS[5], epoch)
end
local retention = tonumber(ARGV[4])
status = ARGV[10]
local fields = { 'status', status, 'version', string.format('%.0f', math.max(version, told_version)) }
local count, last = 0, nil
for i = 1, events do
  local at = 10 + (i - 1) * 4
  local id, name = ARGV[at + 1], ARGV[at + 2]
  -- Whoever lags behind knows an older running than the one that was told: it is past, and is not told again.
  if told[name] ~= id and (at == target or not told[name] or version >= told_version) then
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[5], '*',
      'id', id, 'status', name, 'eval_id', ARGV[7], 'event', ARGV[at + 4])
    redis.call('PUBLISH', ARGV[at + 3], ARGV[at + 4])
    fields[#fields + 1] = name
    fields[#fields + 1] = id
    last = at
    count = count + 1
  end
end
redis.call('HSET', KEYS[1], 'uid', ARGV[1], 'eval_id', ARGV[7], 'namespace', ARGV[8], 'name', ARGV[9],
  'created', ARGV[6], unpack(fields))

-- The newest Job of an evaluation is its record; an older one that ends late does not take it back.
if record[1] == ARGV[1] or not record[2] or tonumber(record[2]) <= tonumber(ARGV[6]) then
  if record[1] and record[1] ~= ARGV[1] then redis.call('DEL', KEYS[4]) end
  redis.call('HSET', KEYS[4], 'uid', ARGV[1], 'created', ARGV[6], 'namespace', ARGV[8], 'name', ARGV[9], 'status', status)
  if last then redis.call('HSET', KEYS[4], 'event', ARGV[last + 4]) end
  if TERMINAL[status] then redis.call('EXPIRE', KEYS[4], retention) end
end

if TERMINAL[status] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('EXPIRE', KEYS[1], retention)
else
  redis.call('ZADD', KEYS[2], ARGV[6], ARGV[1])
end
return { answer, status, epoch, count }
