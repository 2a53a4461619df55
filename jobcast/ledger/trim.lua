-- Removes what is too old, or too much, from the front of a stream, but never what a living group still needs: an entry that was
-- not delivered to it yet, or not acknowledged. A group is dead if it lags and all its consumers have been silent for long, or it
-- has none (as in jobcast/ledger/groups.py). For a dead group nothing is kept.
--
-- KEYS  stream
-- ARGV  1 longest age (s)   2 greatest length   3 silence after which a consumer counts as gone (ms)   4 most entries of one call
--
-- Redis removes whole nodes, so up to a hundred entries more may stay. Returns how many it removed, then the names of the dead
-- groups. It needs no memory, so it works on a full Redis.

local stream, silence, most = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local END = '18446744073709551615-18446744073709551615'

-- Ids are two 64-bit numbers, too large for Lua's numbers: they are compared by their digits.
local function is_less(a, b)
  local a1, a2 = a:match('(%d+)-(%d+)')
  local b1, b2 = b:match('(%d+)-(%d+)')
  if a1 == b1 then a1, b1 = a2, b2 end
  if #a1 ~= #b1 then return #a1 < #b1 end
  return a1 < b1
end
local function earlier(a, b) return is_less(a, b) and a or b end
local function fields(reply)
  local found = {}
  for i = 1, #reply, 2 do found[reply[i]] = reply[i + 1] end
  return found
end

if redis.call('EXISTS', stream) == 0 then return { 0 } end
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local last = newest and newest[1] or '0-0'

local keep, dead = END, {}
for _, reply in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group = fields(reply)
  local needed = group['last-delivered-id']
  local is_behind = is_less(needed, last)
  if group.pending > 0 then
    is_behind = true
    needed = earlier(needed, redis.call('XPENDING', stream, group.name)[2])
  end
  local is_alive = not is_behind
  for _, consumer in ipairs(is_behind and redis.call('XINFO', 'CONSUMERS', stream, group.name) or {}) do
    is_alive = is_alive or fields(consumer).idle < silence
  end
  if is_alive then
    keep = earlier(keep, needed)
  else
    dead[#dead + 1] = group.name
  end
end

local oldest = math.max((redis.call('TIME')[1] - ARGV[1]) * 1000, 0)
local old = earlier(string.format('%.0f-0', oldest), keep)
local count = redis.call('XTRIM', stream, 'MINID', '~', old, 'LIMIT', most)
local excess = math.min(redis.call('XLEN', stream) - ARGV[2], most - count)
if excess > 0 then
  count = count + redis.call('XTRIM', stream, 'MINID', '~', keep, 'LIMIT', excess)
end
return { count, unpack(dead) }
