-- What a worker may hand out now: what has become the first of its evaluation, and what no consumer was given yet.
--
-- KEYS  … of ordering.lua
-- ARGV  1 group   2 consumer   3 how many at most   4 1 if a single place is for a replay   5 how many unwanted statuses
--       6… these statuses   then evaluations of which an entry has ended
--
-- Of the evaluations it returns the first entries, if they are the consumer's; of the new ones those that are the first of
-- their evaluation. The others stay pending for the consumer until they are the first. New ones of an unwanted status are
-- acknowledged.
--
-- Returns what is for handlers, as pairs of an entry and its fields (none: it was trimmed); then, where there was nothing more
-- to read, of both streams the id behind which nothing was given out.

-- At most so many unwanted or waiting entries are passed over in one step: a few milliseconds.
local MOST = 512
local consumer, room = ARGV[2], tonumber(ARGV[3])
local after_statuses = 6 + tonumber(ARGV[5])
local found, is_unwanted, is_read = {}, {}, {}
for i = 6, after_statuses - 1 do is_unwanted[ARGV[i]] = true end

for i = after_statuses, #ARGV do
  local entry, whose = first(ARGV[i])
  if whose == consumer then found[#found + 1] = { entry, read(entry) or {} } end
end
local full = #found + room

local function take(entry, fields)
  local eval_id = evaluation(fields)
  if is_unwanted[field(fields, 'status')] and (field(fields, 'handler') or '') == '' then
    acknowledge(entry)
    return
  end
  if eval_id then append(eval_id, entry) end
  if not eval_id or first(eval_id) == entry then found[#found + 1] = { entry, fields } end
end

local function fill(stream, prefix, most)
  local count = 0
  while #found < most and count < MOST do
    local reply = redis.call('XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', most - #found, 'STREAMS', stream, '>')
    local items = reply and reply[1][2] or {}
    for _, item in ipairs(items) do take(prefix .. item[1], item[2]) end
    count = count + #items
    if #items == 0 then
      is_read[stream] = true
      return
    end
  end
end

local function last(stream)
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    if field(group, 'name') == GROUP then return field(group, 'last-delivered-id') end
  end
end

-- The events first, and the replays with at least one place, so that neither starves; of a single place they alternate.
if room > 1 then fill(EVENTS, '', full - 1) end
if room > 1 or ARGV[4] == '1' then fill(REPLAYS, 'replay:', full) end
fill(EVENTS, '', full)
fill(REPLAYS, 'replay:', full)
if is_read[EVENTS] and is_read[REPLAYS] then return { found, last(EVENTS), last(REPLAYS) } end
return { found }
