-- Of entries that are the consumer's, those that are the first of their evaluation. One that is in no queue, because Redis
-- forgot, is put back; that may cost order among those that already run, never an event.
--
-- KEYS  … of ordering.lua
-- ARGV  1 group   2 consumer   3 how many at most   4… entries
--
-- Returns pairs of an entry and its fields (none: it was trimmed), and how many entries were looked at.

local found, looked_at = {}, 0
for i = 4, #ARGV do
  if #found >= tonumber(ARGV[3]) then break end
  local entry = ARGV[i]
  looked_at = looked_at + 1
  if owner(entry) == ARGV[2] then
    local fields = read(entry)
    local eval_id = evaluation(fields)
    if eval_id then restore(eval_id, entry) end
    if not eval_id or first(eval_id) == entry then found[#found + 1] = { entry, fields or {} } end
  end
end
return { found, looked_at }
