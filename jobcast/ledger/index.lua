-- Removes evaluations whose record is gone from the index, from the oldest on.
--
-- KEYS  index
-- ARGV  1 how the records' keys begin, `{prefix}:eval:`   2 greatest score   3 offset   4 most members to look at
--
-- Returns how many it looked at, and how many of them it removed.

local members = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[2], 'BYSCORE', 'LIMIT', ARGV[3], ARGV[4])
local gone = {}
for _, eval_id in ipairs(members) do
  if redis.call('EXISTS', ARGV[1] .. eval_id) == 0 then gone[#gone + 1] = eval_id end
end
if #gone > 0 then redis.call('ZREM', KEYS[1], unpack(gone)) end
return { #members, #gone }
