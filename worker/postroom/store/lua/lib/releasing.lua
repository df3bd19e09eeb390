-- Ends what a person held.

local M = {}

local FIELDS = {'stopped_since', 'stopped_by', 'stopped_reason', 'stopped_until'}

-- Returns since when it was held, or false.
local function forget_hold(key, scope, name)
  local since = redis.call('HGET', key, 'stopped_since')
  states.forget(scope == 'lane' and 'lane' or 'held', name)
  redis.call('HDEL', key, unpack(FIELDS))
  redis.call('ZREM', keys.holds, scope .. ':' .. name)
  if since then
    events.log_hold('hold.ended', scope, (person_holds.split(name)), {held_s = (call.now - tonumber(since)) / 1000})
    person_holds.count_part(name, -1)
  end
  return since
end

-- One step of a batch's way back into its lanes. Returns how many jobs are left.
function M.put_back_some(batch)
  local lanes, aside = {}, keys.aside(batch)
  for _, id in ipairs(redis.call('ZRANGE', aside, 0, constants.BATCH - 1)) do
    local job = record.read(id)
    redis.call('ZREM', aside, id)
    if job then
      transitions.to_ready(id, job)
      lanes[job.lane] = true
    end
  end
  dispatch.plan_lanes(lanes)
  local left = redis.call('ZCARD', aside)
  redis.call(left > 0 and 'SADD' or 'SREM', keys.releasing, batch)
  return left
end

-- Returns whether a person held it.
function M.release(scope, name)
  if scope == 'lane' then
    local since = forget_hold(keys.lane(name), scope, name)
    dispatch.plan_lane(name)
    return since
  end
  local since = forget_hold(keys.held_batch(name), scope, name)
  redis.call('SADD', keys.releasing, name)
  return since
end

return M
