-- What the scripts of a group share; put before each of them. Times are milliseconds of Redis' clock.
--
-- KEYS  events · replays · signals · queue · keys · keys:send · pulse · next · dead · what precedes an entry's tries
-- ARGV  group · lease · 1 if some target is elsewhere · then each script's own
--
-- An entry is named by its id in the stream of events, or by `replay:<id>` or `signal:<id>`. Entries of one ordering key form
-- a queue; only its first, the head, is handed out. The scores in `keys` and `keys:send` are always derived from the head.

local QUEUE, SLOTS, SENDS, PULSE, NEXT, DEAD, TRIES = KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local GROUP, LEASE, HAS_SENDS = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local CONSUMER = 'router'
local MAX_LOST, MAX_READS, MAX_SENDS, MINUTE, DAY = 3, 3, 8, 60000, 86400000

-- Not behind any time at which a script has run: after a failover the new server's clock may be behind. When nothing has run
-- for a third of the lease, or the server is another, nobody could beat: then no lease ends before a whole one has passed.
local function clock()
  local time = redis.call('TIME')
  local real = time[1] * 1000 + math.floor(time[2] / 1000)
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
  local at, its_run, grace = unpack(redis.call('HMGET', PULSE, 'at', 'run', 'grace'))
  at, grace = tonumber(at or real), tonumber(grace or 0)
  local now = math.max(real, at)
  if its_run and (its_run ~= run or now - at > LEASE / 3) then grace = now + LEASE end
  redis.call('HSET', PULSE, 'at', string.format('%.0f', now), 'run', run, 'grace', string.format('%.0f', grace))
  return now, grace, run
end

local NOW, GRACE, RUN = clock()

local function number(value) return string.format('%.0f', value) end

local function place(entry)
  local stream, id = string.match(entry, '^(%a+):(.*)$')
  if stream == 'replay' then return KEYS[2], id end
  if stream == 'signal' then return KEYS[3], id end
  return KEYS[1], entry
end

local LETTERS = { [KEYS[1]] = 'e', [KEYS[2]] = 'r', [KEYS[3]] = 's' }
local NAMES = { e = '', r = 'replay:', s = 'signal:' }

-- The entry's member in the queue of its key, and back.
local function member(key, entry)
  local stream, id = place(entry)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.format('%s/%s%s-%s%s%s', key, string.rep('0', 15 - #ms), ms, string.rep('0', 20 - #seq), seq, LETTERS[stream])
end

local function entry_of(queued)
  local ms, seq, letter = string.match(queued, '/0*(%d+)%-0*(%d+)(%a)$')
  return NAMES[letter] .. ms .. '-' .. seq
end

local function key_of(fields, entry)
  for i = 1, #fields, 2 do
    if fields[i] == 'eval_id' and fields[i + 1] ~= '' then return string.sub(redis.sha1hex(fields[i + 1]), 1, 16) end
  end
  return string.sub(redis.sha1hex(entry), 1, 16)
end

-- The first entry of the key, and the one behind it. '0' is the character after '/'.
local function head(key)
  local found = redis.call('ZRANGEBYLEX', QUEUE, '[' .. key .. '/', '(' .. key .. '0', 'LIMIT', 0, 2)
  return found[1] and entry_of(found[1]), found[2] and entry_of(found[2])
end

-- The tries of an entry: key, reads, ready, due and reader until it is opened; then `open`, and per target `t:<name>`.
local function load(entry)
  local flat, tries = redis.call('HGETALL', TRIES .. entry), nil
  for i = 1, #flat, 2 do
    tries = tries or {}
    tries[flat[i]] = flat[i + 1]
  end
  return tries
end

-- state: w waits · s sent · r runs · e ended.  place: h here · s is sent elsewhere.
local TARGET = '^(%a) (%a) (%d+) (%S+) (%d+) (%d+) (%d+) (%d+) (%d)$'
local function unpack_target(text)
  local state, at, due, token, tries, lost, sends, first, reserved = string.match(text, TARGET)
  return {
    state = state, place = at, due = tonumber(due), token = token, tries = tonumber(tries), lost = tonumber(lost),
    sends = tonumber(sends), first = tonumber(first), reserved = reserved == '1',
  }
end

local function pack_target(t)
  return string.format(
    '%s %s %.0f %s %d %d %d %.0f %d', t.state, t.place, t.due, t.token, t.tries, t.lost, t.sends, t.first, t.reserved and 1 or 0
  )
end

local function save(entry, name, target)
  redis.call('HSET', TRIES .. entry, 't:' .. name, pack_target(target))
end

local function targets(tries)
  local found = {}
  for field, text in pairs(tries) do
    local name = string.match(field, '^t:(.*)$')
    if name then found[name] = unpack_target(text) end
  end
  return found
end

local function put(set, key, score)
  if set == SENDS and not HAS_SENDS then return end
  if score then redis.call('ZADD', set, number(score), key) else redis.call('ZREM', set, key) end
end

-- When a target can be looked at again. A lease does not end before the grace does.
local function due_of(target)
  if target.state == 'r' then return math.max(target.due, GRACE) end
  return target.due
end

-- Both scores of a key, from its head. `known` is that entry and `tries` its tries, where the script has just read them.
-- First come, first served over keys: one that is ready keeps its place; `arrived` is when its head became the head.
local function derive(key, arrived, known, tries)
  local entry = known or (head(key))
  if not entry then
    put(SLOTS, key)
    put(SENDS, key)
    return
  end
  tries = tries or load(entry)
  if not (tries and tries.open) then
    local score
    if tries and tries.due then
      score = math.max(tonumber(tries.due), GRACE)
    else
      score = math.min(tonumber(tries and tries.ready or arrived or redis.call('ZSCORE', SLOTS, key) or NOW), NOW)
    end
    put(SLOTS, key, score)
    put(SENDS, key, score)
    return
  end
  local here, elsewhere
  for _, target in pairs(targets(tries)) do
    if target.state ~= 'e' then
      local due = due_of(target)
      if target.place == 'h' then
        here = math.min(here or due, due)
      else
        elsewhere = math.min(elsewhere or due, due)
      end
    end
  end
  if not here and not elsewhere then here = NOW end -- all have ended: whoever takes it acknowledges it
  put(SLOTS, key, here)
  put(SENDS, key, elsewhere)
end

local function field(info, name)
  for i = 1, #info, 2 do
    if info[i] == name then return info[i + 1] end
  end
end

local function is_before(a, b)
  local a1, a2 = string.match(a, '(%d+)-(%d+)')
  local b1, b2 = string.match(b, '(%d+)-(%d+)')
  if a1 == b1 then a1, b1 = a2, b2 end
  if #a1 ~= #b1 then return #a1 < #b1 end
  return a1 < b1
end

-- What only groups need is deleted when no group has it unread or pending any more.
local function is_needed(stream, id)
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    if is_before(field(group, 'last-delivered-id'), id) then return true end
    if #redis.call('XPENDING', stream, field(group, 'name'), id, id, 1) > 0 then return true end
  end
  return false
end

local function acknowledge(entry)
  local stream, id = place(entry)
  local count = redis.call('XACK', stream, GROUP, id)
  if stream ~= KEYS[1] and count > 0 and not is_needed(stream, id) then redis.call('XDEL', stream, id) end
  return count
end

-- The entry has ended: it leaves its queue if it is the head. Otherwise, nil, it leaves when it becomes the head.
local function leave(key, entry)
  local first, second = head(key)
  if first ~= entry then return nil end
  redis.call('ZREM', QUEUE, member(key, entry))
  redis.call('DEL', TRIES .. entry)
  if second then derive(key, NOW, second) else derive(key) end
  return acknowledge(entry)
end

local function has_ended(tries)
  for _, target in pairs(targets(tries)) do
    if target.state ~= 'e' then return false end
  end
  return true
end

local function bury(entry, name, reason, tries, body, age, traceback)
  local oldest = math.max(NOW - age * 1000, 0)
  redis.call(
    'XADD', DEAD, 'MINID', '~', number(oldest) .. '-0', '*', 'entry', entry, 'handler', name, 'reason',
    string.sub(reason, 1, 4096), 'traceback', traceback or '', 'tries', tries, 'event', body or ''
  )
end

local function size_of(fields)
  local size = 0
  for i = 2, #fields, 2 do size = size + #fields[i] end
  return size
end

local function body_of(entry)
  local stream, id = place(entry)
  local found = redis.call('XRANGE', stream, id, id)[1]
  return found and found[2]
end
