-- Takes evaluations whose record is gone out of the index.
--
-- KEYS  index
-- ARGV  1 the beginning of the records' keys, `{prefix}:eval:`   2 the greatest score to look at   3 offset   4 most members to look at
--
-- Looks from the oldest on. Returns how many it looked at, and how many of them it took out.

local members = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[2], 'BYSCORE', 'LIMIT', ARGV[3], ARGV[4])
local gone = {}
for _, eval_id in ipairs(members) do
  if redis.call('EXISTS', ARGV[1] .. eval_id) == 0 then gone[#gone + 1] = eval_id end
end
if #gone > 0 then redis.call('ZREM', KEYS[1], unpack(gone)) end
return { #members, #gone }
