-- The ledger's step: if this is newer than what was published of this Job, record it, append it and publish it, atomically.
-- Otherwise say why not, and change nothing. It may be called again: after a lost reply, by another replica, after a restart.
-- All keys are read before the first write, and the first write is one that Redis rejects when memory is full (SET, XADD or
-- HSET). So a full Redis, or a key of another type, rejects the whole step, and nothing is recorded that was not published.
--
-- KEYS  row · open · events · evaluation · epoch · index
-- ARGV  1 uid   2 resourceVersion   3 an epoch, if there is none   4 retention (s)
--       5 created (Unix s)   6 eval_id   7 namespace   8 name   9 the Job's status: pending or one of the events'
--       10 number of events   11 the Job's last suspension, as its driver wrote it   12 1 to keep the eval_id of the row
--       then four for each event, in order: id, status, channel, JSON. The last one that is not progress is the target. The
--       ones before it are published only together with it, unless they, or newer ones of their status, were published.
--       Progress is only published, once each, and never after the end
--       then, in pairs, fields of the evaluation's record; an empty value removes the field. A published status removes
--       `waiting`, an end also `attempts`
--
-- Returns {answer, status now in the row, epoch, number of events published, without progress}.
-- Answers: published · seen (recorded, nothing to publish) · duplicate · stale (a newer version was published) · ended ·
--          renamed (the row has another eval_id, which comes in place of the status: the first one stays)

local TERMINAL = { completed = true, failed = true, cancelled = true }
local MOST_JOBS = 100
-- Anything else than a number counts as 0: an error half way would leave the step half done.
local function number(text)
  local value = tonumber(text or '0')
  return value and value >= 0 and value < 2 ^ 64 and value or 0
end
local version = tonumber(ARGV[2])
local events = tonumber(ARGV[10])
local first_event = 13
local first_field = first_event + events * 4

local epoch = redis.call('GET', KEYS[5])
local row = redis.call('HMGET', KEYS[1], 'status', 'version', 'running', 'suspended', 'eval_id', 'suspension')
local status, published_version = row[1], number(row[2])
local published = { running = row[3], suspended = row[4] }

local target, progress = nil, {}
for at = first_event, first_field - 1, 4 do
  if ARGV[at + 1] ~= 'progress' then
    target = at
  elseif redis.call('HEXISTS', KEYS[1], 'progress:' .. ARGV[at]) == 0 then
    progress[at] = true
  end
end

local answer
if status and TERMINAL[status] then
  answer = 'ended'
elseif not target then
  answer = status and 'duplicate' or 'seen'
elseif TERMINAL[ARGV[target + 1]] then
  answer = 'published'
elseif published[ARGV[target + 1]] == ARGV[target] then
  answer = 'duplicate'
elseif version < published_version then
  answer = 'stale'
else
  answer = 'published'
end

if answer ~= 'ended' and row[5] and row[5] ~= ARGV[6] and ARGV[12] == '1' then
  return { 'renamed', row[5], epoch, 0 }
end
local is_new = answer == 'published' or answer == 'seen'
if answer == 'ended' or (not is_new and not next(progress) and (target or first_field > #ARGV)) then
  return { answer, status, epoch, 0 }
end

local record = redis.call('HMGET', KEYS[4], 'uid', 'created')
redis.call('ZSCORE', KEYS[2], ARGV[1])
redis.call('ZSCORE', KEYS[6], ARGV[6])

if not epoch then
  epoch = ARGV[3]
  redis.call('SET', KEYS[5], epoch)
end
local retention = tonumber(ARGV[4])
local fields = { 'uid', ARGV[1], 'eval_id', ARGV[6], 'namespace', ARGV[7], 'name', ARGV[8], 'created', ARGV[5] }
if is_new then
  status = ARGV[9]
  fields[#fields + 1] = 'status'
  fields[#fields + 1] = status
  fields[#fields + 1] = 'version'
  fields[#fields + 1] = string.format('%.0f', math.max(version, published_version))
end
if is_new and (row[6] or '') ~= ARGV[11] then
  fields[#fields + 1] = 'suspension'
  fields[#fields + 1] = ARGV[11]
end
local count, last, changed = 0, nil, nil
for at = first_event, first_field - 1, 4 do
  local id, name = ARGV[at], ARGV[at + 1]
  if progress[at] then
    redis.call('HSET', KEYS[1], 'progress:' .. id, '1')
    redis.call('PUBLISH', ARGV[at + 2], ARGV[at + 3])
  -- A replica that lags may send an older running than the published one: it is past, and is not published.
  elseif is_new and name ~= 'progress' and published[name] ~= id
    and (at == target or not published[name] or version >= published_version) then
    local entry = redis.call('XADD', KEYS[3], '*',
      'id', id, 'status', name, 'eval_id', ARGV[6], 'event', ARGV[at + 3])
    redis.call('PUBLISH', ARGV[at + 2], ARGV[at + 3])
    fields[#fields + 1] = name
    fields[#fields + 1] = id
    last, changed = at, entry:match('^%d+')
    count = count + 1
  end
end
redis.call('HSET', KEYS[1], unpack(fields))

local listed = ARGV[5] .. ' ' .. status .. ' ' .. ARGV[7] .. '/' .. ARGV[8]
-- The record is about the newest Job of the evaluation, and lists all of them: an older one that ends late is only listed.
if record[1] == ARGV[1] or not record[2] or number(record[2]) <= tonumber(ARGV[5]) then
  if record[1] and record[1] ~= ARGV[1] then
    local jobs, past = {}, {}
    for _, field in ipairs(redis.call('HKEYS', KEYS[4])) do
      if field:sub(1, 4) == 'job:' then jobs[#jobs + 1] = field else past[#past + 1] = field end
    end
    if #jobs >= MOST_JOBS then
      local created = {}
      for _, field in ipairs(jobs) do
        created[field] = tonumber((redis.call('HGET', KEYS[4], field) or ''):match('^%S+')) or 0
      end
      table.sort(jobs, function(a, b) return created[a] < created[b] end)
      for i = 1, #jobs - MOST_JOBS + 1 do past[#past + 1] = jobs[i] end
    end
    for _, field in ipairs(past) do redis.call('HDEL', KEYS[4], field) end
  end
  redis.call('HSET', KEYS[4], 'uid', ARGV[1], 'created', ARGV[5], 'namespace', ARGV[7], 'name', ARGV[8],
    'status', status, 'job:' .. ARGV[1], listed)
  -- By Redis' clock, as the stream's ids; before its first event an evaluation is as old as its Job.
  if changed then
    redis.call('ZADD', KEYS[6], changed, ARGV[6])
  else
    redis.call('ZADD', KEYS[6], 'NX', string.format('%.0f', tonumber(ARGV[5]) * 1000), ARGV[6])
  end
  if last then redis.call('HSET', KEYS[4], 'event', ARGV[last + 3]) end
  if last and TERMINAL[status] then
    redis.call('HDEL', KEYS[4], 'waiting', 'attempts') -- the event has the attempts
  elseif last then
    redis.call('HDEL', KEYS[4], 'waiting')
  end
  if version >= published_version then
    for at = first_field, #ARGV, 2 do
      if ARGV[at + 1] == '' then
        redis.call('HDEL', KEYS[4], ARGV[at])
      else
        redis.call('HSET', KEYS[4], ARGV[at], ARGV[at + 1])
      end
    end
  end
  if TERMINAL[status] then
    redis.call('EXPIRE', KEYS[4], retention)
  elseif is_new then
    redis.call('PERSIST', KEYS[4])
  end
else
  redis.call('HSET', KEYS[4], 'job:' .. ARGV[1], listed)
end

if TERMINAL[status] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('EXPIRE', KEYS[1], retention)
  -- With no Job open, all records expire, and none later than this.
  if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('EXPIRE', KEYS[6], retention) end
elseif is_new and redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1]) == 1 then
  redis.call('PERSIST', KEYS[6])
end
return { answer, status, epoch, count }
