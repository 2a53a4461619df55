-- Gives an expiry to every key of ours that should have one and has none, because it was restored without it or because what
-- would have set it was lost. It deletes nothing: each key lives as long as if its Job had just ended.
--
-- KEYS  open · index · then the keys found: rows, records, logs, claims, todos, names of workers
-- ARGV  1 retention (s)   2 life of a todo (s)   3 the beginning of all our keys, `{prefix}:`
--
-- Adds to the open Jobs a row without an end that is missing there: the next sweep then publishes the Job's end. Adds to the
-- index a record that is missing there. Returns how many repairs it made.

local TERMINAL = { completed = true, failed = true, cancelled = true }
local open, index, retention, todo_life, prefix = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local CLAIM_LIFE, NAME_LIFE = 5, 60

local function is_of(key, kind) return key:sub(1, #prefix + #kind) == prefix .. kind end
local function is_hash(key) return redis.call('TYPE', key).ok == 'hash' end
-- nil for a row that does not exist, or is of another type.
local function status_of(row) return is_hash(row) and (redis.call('HGET', row, 'status') or nil) or nil end

-- Anything else than a number counts as 0.
local function seconds(text)
  local value = tonumber(text or '0')
  return value and value >= 0 and value < 2 ^ 53 and value or 0
end

local index_type = redis.call('TYPE', index).ok
local has_index = index_type == 'zset' or index_type == 'none'
-- When the evaluation changed last, in Unix milliseconds: its event's time, else when its Job was created.
local function changed(record)
  local found = redis.call('HMGET', record, 'event', 'created')
  local at = found[1] and seconds(found[1]:match('"timestamp":([%d.]+)')) or 0
  return string.format('%.0f', (at > 0 and at or seconds(found[2] or nil)) * 1000)
end

local repaired = 0
for i = 3, #KEYS do
  local key, life = KEYS[i], nil
  if has_index and is_of(key, 'eval:') and is_hash(key) then
    local eval_id = key:sub(#prefix + #'eval:' + 1)
    if not redis.call('ZSCORE', index, eval_id) then repaired = repaired + redis.call('ZADD', index, changed(key), eval_id) end
  end
  if redis.call('TTL', key) == -1 then
    if is_of(key, 'job:') then
      local status, uid = status_of(key), key:sub(#prefix + #'job:' + 1)
      if not status or TERMINAL[status] then
        life = retention
      elseif not redis.call('ZSCORE', open, uid) then
        redis.call('ZADD', open, seconds(redis.call('HGET', key, 'created')), uid)
        repaired = repaired + 1
      end
    elseif is_of(key, 'eval:') then
      local status = is_hash(key) and status_of(prefix .. 'job:' .. (redis.call('HGET', key, 'uid') or '')) or nil
      if not status or TERMINAL[status] then life = retention end
    elseif key == index then
      if redis.call('EXISTS', open) == 0 then life = retention end
    elseif is_of(key, 'log:') then
      life = retention
    elseif is_of(key, 'todo:') then
      life = todo_life
    elseif is_of(key, 'claim:') then
      life = CLAIM_LIFE
    elseif is_of(key, 'worker:') then
      life = NAME_LIFE
    end
  end
  if life then repaired = repaired + redis.call('EXPIRE', key, life) end
end
return repaired
