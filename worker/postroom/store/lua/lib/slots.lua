-- The slots of all workers together (Celery's concurrency), and which lanes may take them.
--
-- Lanes whose answers are slow take at most half of the slots together, and a quarter is kept for lanes that are known
-- to be quick. A lane that is not known yet (`unknown`) shows its speed with one claim first. `hands:slow` and
-- `hands:unknown` are the sets of their claims, `hands:waiting` the lanes that wait for one of these to end.

local M = {}

M.SLOW = 2000  -- ms: an answer that takes longer makes its lane a slow one
local ASSUMED = 8  -- slots, before the first tick has counted them

function M.speed_of(lane_state)
  return lane_state.slow == '1' and 'slow' or lane_state.slow == '0' and 'quick' or 'unknown'
end

-- How many slots there are by the last tick; nil before the first one.
function M.count()
  local lengths, key = call.lengths, keys.slots
  if lengths[key] == nil then lengths[key] = tonumber(redis.call('GET', key)) or false end
  return lengths[key] or nil
end

function M.set_count(count)
  redis.call('SET', keys.slots, count)
  call.lengths[keys.slots] = count
end

local function claims_key(speed) return speed == 'slow' and keys.slots_slow or keys.slots_unknown end

function M.is_none_free(lane_state)
  local speed = M.speed_of(lane_state)
  if speed == 'quick' then return false end
  local all = M.count() or ASSUMED
  local slow, unknown = redis.call('SCARD', keys.slots_slow), redis.call('SCARD', keys.slots_unknown)
  if speed == 'slow' then return slow >= math.max(1, math.floor(all / 2)) end
  return slow + unknown >= math.max(1, all - math.max(1, math.floor(all / 4)))
end

-- A lane waits for a slot.
function M.wait(lane) redis.call('ZADD', keys.slots_waiting, 'NX', call.now, lane) end

function M.take(id, speed) redis.call('SADD', claims_key(speed), id) end

function M.give_back(id)
  redis.call('SREM', keys.slots_slow, id)
  redis.call('SREM', keys.slots_unknown, id)
end

-- This claim turned out to be slow. Returns whether that is new.
function M.mark_as_slow(id)
  redis.call('SREM', keys.slots_unknown, id)
  return redis.call('SADD', keys.slots_slow, id) == 1
end

return M
