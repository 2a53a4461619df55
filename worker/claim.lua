-- Take over what its consumers have not touched for too long.
--
-- KEYS  … of ordering.lua
-- ARGV  1 group   2 consumer   3 how many at most of each stream   4 milliseconds of silence
--
-- Returns the entries. Not XAUTOCLAIM, which looks at ten times as many as it is to take, and not behind them.

local found = {}
for _, from in ipairs({ { EVENTS, '' }, { REPLAYS, 'replay:' } }) do
  for _, item in ipairs(redis.call('XPENDING', from[1], GROUP, 'IDLE', ARGV[4], '-', '+', ARGV[3])) do
    local entry = from[2] .. item[1]
    give(entry, ARGV[2], 'JUSTID')
    found[#found + 1] = entry
  end
end
return found
