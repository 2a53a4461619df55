-- Entries were decoded: these targets want them. Their set is fixed with the first opening. Those that are here begin at once, as
-- far as there are slots; the others wait, or for their rate limit.
--
-- ARGV  per entry: entry, key, reader, how many may begin, how many targets; per target: name, place (h here, s sent),
--       milliseconds of its rate
--
-- Returns per entry those that begin: name, token, tries, lost, sends. None wants it: it is acknowledged.

local function free_at(name, pause)
  if pause == 0 then return NOW end
  local free = math.max(tonumber(redis.call('HGET', NEXT, name) or 0), NOW)
  redis.call('HSET', NEXT, name, number(free + pause))
  return free
end

local function open(entry, key, reader, room, from, to)
  local tries, begun = load(entry), {}
  local function token_of(name) return reader .. '/' .. entry .. '/' .. name end
  if not tries then return begun end
  if tries.open then
    -- Asked once more, because the answer was lost.
    for name, target in pairs(targets(tries)) do
      if target.token == token_of(name) and target.state == 'r' then
        begun[#begun + 1] = { name, target.token, target.tries, target.lost, target.sends }
      end
    end
    return begun
  end
  if tries.reader ~= reader then return begun end
  redis.call('HDEL', TRIES .. entry, 'reads', 'due', 'reader', 'ready')
  local written = { 'open', 1 }
  for i = from, to, 3 do
    local name, at = ARGV[i], ARGV[i + 1]
    local target = {
      state = 'w', place = at, due = NOW, token = '-', tries = 0, lost = 0, sends = 0, first = 0, reserved = false,
    }
    if at == 'h' and room > 0 then
      local free = free_at(name, tonumber(ARGV[i + 2]))
      if free > NOW then
        target.due, target.reserved = free, true
      else
        target.state, target.token, target.due, target.tries = 'r', token_of(name), NOW + LEASE, 1
        begun[#begun + 1] = { name, target.token, 1, 0, 0 }
        room = room - 1
      end
    end
    written[#written + 1] = 't:' .. name
    written[#written + 1] = pack_target(target)
  end
  redis.call('HSET', TRIES .. entry, unpack(written))
  if to < from then leave(key, entry) else derive(key) end
  return begun
end

local found, i = {}, 4
while i <= #ARGV do
  local first = i + 5
  local last = first + 3 * tonumber(ARGV[i + 4]) - 1
  found[#found + 1] = open(ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), first, last)
  i = last + 1
end
return found
