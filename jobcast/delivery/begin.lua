-- A message of a broker wants to begin its run. Any may that finds its entry the head of its key, its target without an end, a
-- wait for a retry or another live run; so a message that comes twice begins once.
--
-- ARGV  4 entry   5 target   6 token of the run
--
-- Returns key, tries, lost and the entry's fields; an empty list: not this one.

local entry, name, token = ARGV[4], ARGV[5], ARGV[6]
local fields, tries = body_of(entry), load(entry)
if not (fields and tries and tries.open and tries['t:' .. name]) then return {} end
local key = key_of(fields, entry)
if head(key) ~= entry then return {} end
local target = unpack_target(tries['t:' .. name])
if target.state == 'e' then return {} end
if target.state == 'r' and target.token ~= token and due_of(target) > NOW then return {} end
if target.state == 'w' and target.due > NOW then return {} end
if not (target.state == 'r' and target.token == token) then
  if target.state == 'r' then target.lost = target.lost + 1 end
  target.tries = target.tries + 1
end
target.state, target.token, target.due, target.sends, target.first = 'r', token, NOW + LEASE, 0, 0
save(entry, name, target)
derive(key)
return { key, target.tries, target.lost, fields }
