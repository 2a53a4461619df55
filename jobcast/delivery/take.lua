-- Hand out what is due, as far as there is room, in the order in which it became due.
--
-- ARGV  4 request   5 free slots   6 free sending places   7 free bytes   8 1 if the process holds nothing
--       9 longest age of an entry (s)   10… targets with a rate limit: name, milliseconds between two
--
-- Returns the server's run id, the milliseconds until something is due (-1: nothing is known), and per entry: entry, key,
-- fields, reads, and the targets to begin or send now (name, token, tries, lost, sends); none means that it is to be opened.
-- The same request is answered alike, so a lost answer costs nothing.

local request, slots, sends, bytes = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local is_empty, age = ARGV[8] == '1', tonumber(ARGV[9])
local rates = {}
for i = 10, #ARGV, 2 do rates[ARGV[i]] = tonumber(ARGV[i + 1]) end

local found, runs = {}, 0
local is_alone = false

local function give(entry, key, fields, reads, its)
  bytes = bytes - size_of(fields)
  found[#found + 1] = { entry, key, fields, reads, its }
end

-- Whether the body still fits; the first of an idle process always does.
local function fits(fields)
  return size_of(fields) <= bytes or (is_empty and #found == 0)
end

local function reserve(name, target)
  local pause = rates[name]
  if not pause or target.reserved then return true end
  local at = math.max(tonumber(redis.call('HGET', NEXT, name) or 0), NOW)
  redis.call('HSET', NEXT, name, number(at + pause))
  if at <= NOW then return true end
  target.due, target.reserved = at, true
  return false
end

-- One that is due: begins it (here), or has it sent. Returns what the process needs, or nil.
local function hand(entry, name, target, fields)
  local function give_up(reason)
    bury(entry, name, reason, target.tries, field(fields, 'event'), age)
    target.state = 'e'
  end
  if target.state == 'r' then target.lost = target.lost + 1 end
  if target.lost >= MAX_LOST then return give_up('its process died each time, or its time limit passed') end
  if target.place == 'h' then
    target.state = 'w'
    if not reserve(name, target) then return nil end
    runs = runs + 1
    target.state, target.token, target.due = 'r', request .. '.' .. runs, NOW + LEASE
    target.tries, target.reserved = target.tries + 1, false
  else
    if target.first > 0 and NOW - target.first >= DAY then return give_up('nobody serves its queue') end
    if target.sends >= MAX_SENDS then
      target.state, target.due = 's', target.first + DAY
      return nil
    end
    target.state = 'w'
    if not reserve(name, target) then return nil end
    if target.first == 0 then target.first = NOW end
    target.sends = target.sends + 1
    target.state, target.reserved = 's', false
    target.due = NOW + math.min(MINUTE * 2 ^ (target.sends - 1), 60 * MINUTE)
    runs = runs + 1
    target.token = request .. '.' .. runs
  end
  return { name, target.token, target.tries, target.lost, target.sends }
end

-- What its targets want of it now, among those of this kind of place.
local function look(key, kind, room)
  local entry = head(key)
  if not entry then
    derive(key)
    return nil
  end
  local fields = body_of(entry)
  if not fields then
    -- Trimmed: nothing is left to hand out.
    leave(key, entry)
    found[#found + 1] = { entry, key, false, 0, {} }
    return nil
  end
  local tries = load(entry) or {}
  if not tries.open then
    local reads = tonumber(tries.reads or 0)
    if reads >= MAX_READS then
      bury(entry, '', 'the process that read it died each time', 0, field(fields, 'event'), age)
      redis.call('HSET', TRIES .. entry, 'open', 1)
      leave(key, entry)
      return nil
    end
    if reads > 0 and not (is_empty and #found == 0) then return nil end
    if not fits(fields) then return 'full' end
    is_alone = reads > 0
    local score = redis.call('ZSCORE', SLOTS, key) or number(NOW)
    tries = { reads = reads + 1, due = number(NOW + LEASE), reader = request, ready = score }
    redis.call('HSET', TRIES .. entry, 'reads', tries.reads, 'due', tries.due, 'reader', request, 'ready', score)
    redis.call('EXPIRE', TRIES .. entry, age)
    derive(key, nil, entry, tries)
    give(entry, key, fields, reads + 1, false)
    return 'given'
  end
  if has_ended(tries) then
    leave(key, entry)
    return nil
  end
  if not fits(fields) then return 'full' end
  local its, count = {}, 0
  for name, target in pairs(targets(tries)) do
    if target.place == kind and target.state ~= 'e' and due_of(target) <= NOW and count < room then
      local was_lost = target.lost > 0 or target.state == 'r'
      -- One that was lost before begins alone in its process: then it is known whose fault it is.
      local needs_idle = kind == 'h' and was_lost and target.lost + 1 < MAX_LOST
      if not needs_idle or (is_empty and #found == 0 and count == 0) then
        local given = hand(entry, name, target, fields)
        save(entry, name, target)
        if given then
          its[#its + 1] = given
          count = count + 1
          is_alone = is_alone or (kind == 'h' and was_lost)
        end
      end
    end
  end
  tries = load(entry)
  if has_ended(tries) then
    leave(key, entry)
    return nil
  end
  derive(key, nil, entry, tries)
  if count > 0 then
    give(entry, key, fields, 0, its)
    return count
  end
end

-- Looks at more keys than there is room for: what is lost before waits for an idle process.
local function fill(set, kind, room)
  local behind = 0
  while room > 0 and not is_alone and behind < 1000 do
    local keys = redis.call('ZRANGEBYSCORE', set, '-inf', number(NOW), 'LIMIT', behind, math.min(room, 64))
    if #keys == 0 then return end
    for _, key in ipairs(keys) do
      local said = look(key, kind, room)
      if said == 'full' then return end
      if said == 'given' then
        room = room - 1
      elseif said then
        room = room - said
      else
        -- It still is due, or not: what was given has a lease now.
        local score = redis.call('ZSCORE', set, key)
        if score and tonumber(score) <= NOW then behind = behind + 1 end
      end
      if room <= 0 or is_alone then return end
    end
  end
end

local function again()
  local stored = redis.call('GET', KEYS[12])
  if not stored then return false end
  local its_request, entries = string.match(stored, '^(%S+) ?(.*)$')
  if its_request ~= request then return false end
  for entry in string.gmatch(entries, '%S+') do
    local tries, fields = load(entry), body_of(entry)
    if tries and fields then
      local key = key_of(fields, entry)
      if not tries.open then
        if tries.reader == request then give(entry, key, fields, tonumber(tries.reads), false) end
      else
        local its = {}
        for name, target in pairs(targets(tries)) do
          if string.find(target.token, request .. '.', 1, true) == 1 and (target.state == 'r' or target.state == 's') then
            its[#its + 1] = { name, target.token, target.tries, target.lost, target.sends }
          end
        end
        if #its > 0 then give(entry, key, fields, 0, its) end
      end
    end
  end
  return true
end

if not again() then
  fill(SLOTS, 'h', slots)
  if sends > 0 and not is_alone then fill(SENDS, 's', sends) end
  local entries = {}
  for _, item in ipairs(found) do
    if item[3] then entries[#entries + 1] = item[1] end
  end
  if #entries > 0 then
    redis.call('SET', KEYS[12], request .. ' ' .. table.concat(entries, ' '), 'PX', number(LEASE))
  end
end

local soonest = -1
for _, set in ipairs({ SLOTS, SENDS }) do
  local first = redis.call('ZRANGEBYSCORE', set, '(' .. number(NOW), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if first[2] then
    local left = math.max(tonumber(first[2]) - NOW, 0)
    if soonest < 0 or left < soonest then soonest = left end
  end
end
return { RUN, soonest, found }
