-- Finds keys of ours that should have an expiry and have none, because they were restored without it, and open Jobs that are
-- missing among the open ones. Repairs them if asked to: it deletes nothing, each key lives as long as if its Job had just ended.
--
-- KEYS  open · then the keys to look at: rows, records, logs, claims, todos, names of workers
-- ARGV  1 the beginning of all our keys, `{prefix}:`   2 retention (s)   3 life of a todo (s); both empty: only look
--
-- Returns the number of keys without the expiry that they should have, and of rows without an end that are missing among the
-- open Jobs. Once they are there, the next sweep publishes the Jobs' ends.

local TERMINAL = { completed = true, failed = true, cancelled = true }
local open, prefix, retention, todo_life = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local repairs = retention ~= ''
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

local immortal, missing = 0, 0
for i = 2, #KEYS do
  local key, life = KEYS[i], nil
  if redis.call('TTL', key) == -1 then
    if is_of(key, 'job:') then
      local status, uid = status_of(key), key:sub(#prefix + #'job:' + 1)
      if not status or TERMINAL[status] then
        life = retention
      elseif not redis.call('ZSCORE', open, uid) then
        missing = missing + 1
        if repairs then redis.call('ZADD', open, seconds(redis.call('HGET', key, 'created')), uid) end
      end
    elseif is_of(key, 'eval:') then
      local status = is_hash(key) and status_of(prefix .. 'job:' .. (redis.call('HGET', key, 'uid') or '')) or nil
      if not status or TERMINAL[status] then life = retention end
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
  if life then
    immortal = immortal + 1
    if repairs then redis.call('EXPIRE', key, life) end
  end
end
return { immortal, missing }
