-- Runs have ended, or are given back before they began.
--
-- ARGV  nine per run: entry, key, target ('' for the entry as a whole), token, outcome, then
--   done
--   retry   after how many milliseconds
--   lost    its process died, or it was ended
--   back    tries that it counted (0 or 1)
--   dead    longest age of a dead letter (s), reason, traceback, tries
--
-- Returns per run 1 if that was news: the same end twice, or that of a run which another has replaced, is not.

local function bury_it(entry, name, age, reason, traceback, tries)
  bury(entry, name, reason, tries, field(body_of(entry) or {}, 'event'), age, traceback)
end

-- The entry as a whole, by the process that read it and could not or did not open it.
local function end_unopened(entry, key, tries, token, outcome, ...)
  if tries.open or tries.reader ~= token then return 0 end
  if outcome == 'back' then
    -- The process is well: nothing is counted, and its place is kept.
    redis.call('HDEL', TRIES .. entry, 'due', 'reader', 'reads')
    derive(key)
    return 1
  end
  if outcome == 'dead' then bury_it(entry, '', ...) end
  redis.call('HSET', TRIES .. entry, 'open', 1)
  leave(key, entry)
  return 1
end

local function finish(entry, key, name, token, outcome, a, ...)
  local tries = load(entry)
  if not tries then return 0 end
  if name == '' then return end_unopened(entry, key, tries, token, outcome, a, ...) end
  local text = tries['t:' .. name]
  if not text then return 0 end
  local target = unpack_target(text)
  if target.state == 'e' then return 0 end
  local is_its = target.token == token
  local is_replaced = target.state == 'r' and not is_its and due_of(target) > NOW
  -- An older run's success counts only where no other run is alive; its failure never does.
  if is_replaced or (not is_its and outcome ~= 'done' and outcome ~= 'dead') then return 0 end
  if outcome == 'retry' then
    target.state, target.due, target.reserved = 'w', NOW + tonumber(a), false
    target.sends, target.first = 0, 0
  elseif outcome == 'lost' then
    target.state, target.due, target.lost = 'w', NOW, target.lost + 1
  elseif outcome == 'back' then
    target.state, target.due = 'w', NOW
    target.tries = math.max(target.tries - tonumber(a), 0)
  else
    if outcome == 'dead' then bury_it(entry, name, a, ...) end
    target.state = 'e'
  end
  tries['t:' .. name] = pack_target(target)
  if has_ended(tries) and leave(key, entry) ~= nil then return 1 end
  save(entry, name, target)
  derive(key)
  return 1
end

local news = {}
for i = 4, #ARGV, 9 do news[#news + 1] = finish(unpack(ARGV, i, i + 8)) end
redis.call('PUBLISH', KEYS[11], '')
return news
