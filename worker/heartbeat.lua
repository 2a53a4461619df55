-- Keep alive all that is the consumer's, in one step: what becomes another's meanwhile is not taken back.
--
-- KEYS  … of ordering.lua
-- ARGV  1 group   2 consumer   3 how many at most of each stream   4 milliseconds of silence to pretend   5… entries left out
--
-- Returns the entries.

local kept, found = {}, {}
for i = 5, #ARGV do kept[ARGV[i]] = true end
for _, from in ipairs({ { EVENTS, '' }, { REPLAYS, 'replay:' } }) do
  for _, item in ipairs(redis.call('XPENDING', from[1], GROUP, '-', '+', ARGV[3], ARGV[2])) do
    local entry = from[2] .. item[1]
    if not kept[entry] then
      give(entry, ARGV[2], 'IDLE', ARGV[4], 'JUSTID')
      found[#found + 1] = entry
    end
  end
end
return found
