-- What the scripts of a group share; put before each of them. The entries of an evaluation that were given out and are
-- not acknowledged form a queue, in their order, and only its first is for handlers.
--
-- An entry is named by its id in the stream of events, or by `replay:<id>`. Its owner is the consumer that it is pending for,
-- and no other worker hands it out; so the scripts decide which worker may begin it. What is in a queue and not pending any
-- more (trimmed, acknowledged from outside, lost by Redis) leaves it when it becomes the first. An entry without `eval_id`
-- has no queue, and no order.
--
-- KEYS  events · replays · queues · then each script's own
-- ARGV  group · then each script's own

local EVENTS, REPLAYS, QUEUES, GROUP = KEYS[1], KEYS[2], KEYS[3], ARGV[1]

local function place(entry)
  local id = string.match(entry, '^replay:(.*)$')
  if id then return REPLAYS, id end
  return EVENTS, entry
end

local function owner(entry)
  local stream, id = place(entry)
  local pending = redis.call('XPENDING', stream, GROUP, id, id, 1)[1]
  return pending and pending[2]
end

local function give(entry, consumer, ...)
  local stream, id = place(entry)
  redis.call('XCLAIM', stream, GROUP, consumer, 0, id, ...)
end

-- Its fields, as a list of names and values; nil when it was trimmed.
local function read(entry)
  local stream, id = place(entry)
  local found = redis.call('XRANGE', stream, id, id)[1]
  return found and found[2]
end

local function evaluation(fields)
  for i = 1, #(fields or {}), 2 do
    if fields[i] == 'eval_id' and fields[i + 1] ~= '' then return fields[i + 1] end
  end
end

-- Whether a is before b in the stream that both are of; ids are too long for Lua's numbers.
local function is_before(a, b)
  local a1, a2 = string.match(a, '(%d+)-(%d+)')
  local b1, b2 = string.match(b, '(%d+)-(%d+)')
  if a1 == b1 then a1, b1 = a2, b2 end
  if #a1 ~= #b1 then return #a1 < #b1 end
  return a1 < b1
end

local function queue_of(eval_id)
  return redis.call('HGET', QUEUES, eval_id) or ''
end

local function keep(eval_id, entries)
  if entries == '' then
    redis.call('HDEL', QUEUES, eval_id)
  else
    redis.call('HSET', QUEUES, eval_id, entries)
  end
end

local function is_in(entries, entry)
  return string.find(' ' .. entries .. ' ', ' ' .. entry .. ' ', 1, true) ~= nil
end

local function without(entries, entry)
  local at = string.find(' ' .. entries .. ' ', ' ' .. entry .. ' ', 1, true)
  if not at then return entries end
  return string.sub(entries, 1, math.max(at - 2, 0)) .. string.sub(entries, at + #entry + (at == 1 and 1 or 0))
end

-- The first of the evaluation that is still pending, and its owner.
local function first(eval_id)
  local before = queue_of(eval_id)
  local entries, entry, whose = before, nil, nil
  while true do
    entry = string.match(entries, '^%S+')
    whose = entry and owner(entry)
    if whose or not entry then break end
    entries = string.sub(entries, #entry + 2)
  end
  if entries ~= before then keep(eval_id, entries) end
  return entry, whose
end

-- Append one that was just given out.
local function append(eval_id, entry)
  local entries = queue_of(eval_id)
  if is_in(entries, entry) then return end
  keep(eval_id, entries == '' and entry or entries .. ' ' .. entry)
end

-- Put back one that Redis has forgotten: before those of its stream that came later.
local function restore(eval_id, entry)
  local entries = queue_of(eval_id)
  if is_in(entries, entry) then return end
  local stream, id = place(entry)
  local list, is_placed = {}, false
  for other in string.gmatch(entries, '%S+') do
    local its_stream, its_id = place(other)
    if not is_placed and its_stream == stream and is_before(id, its_id) then
      list[#list + 1], is_placed = entry, true
    end
    list[#list + 1] = other
  end
  if not is_placed then list[#list + 1] = entry end
  keep(eval_id, table.concat(list, ' '))
end

local function field(info, name)
  for i = 1, #info, 2 do
    if info[i] == name then return info[i + 1] end
  end
end

-- A replay that no group has unread or pending is not needed any more.
local function is_needed(replay)
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', REPLAYS)) do
    local name = field(group, 'name')
    if is_before(field(group, 'last-delivered-id'), replay) then return true end
    if #redis.call('XPENDING', REPLAYS, name, replay, replay, 1) > 0 then return true end
  end
  return false
end

-- Returns 1 when it was pending.
local function acknowledge(entry)
  local stream, id = place(entry)
  local count = redis.call('XACK', stream, GROUP, id)
  if stream == REPLAYS and count > 0 and not is_needed(id) then redis.call('XDEL', stream, id) end
  return count
end
