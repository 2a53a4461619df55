-- These runs are alive.
--
-- ARGV  per run: entry, key, target, token
--
-- Returns the tokens of those that are refused: another run has taken their place, or they have ended. One that Redis does not
-- know, because it forgot, is accepted if nobody else runs.

local refused = {}
for i = 4, #ARGV, 4 do
  local entry, key, name, token = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local text = redis.call('HGET', TRIES .. entry, 't:' .. name)
  local target = text and unpack_target(text)
  if not target then
    local stream, id = place(entry)
    if #redis.call('XPENDING', stream, GROUP, id, id, 1) == 0 then refused[#refused + 1] = token end
  elseif target.state == 'e' or (target.state == 'r' and target.token ~= token and due_of(target) > NOW) then
    refused[#refused + 1] = token
  else
    target.state, target.token, target.due = 'r', token, NOW + LEASE
    save(entry, name, target)
    derive(key)
  end
end
return refused
