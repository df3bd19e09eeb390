-- A part of release.lua and tick.lua: what a person held goes on.

local STOP = {'stopped_since', 'stopped_by', 'stopped_reason', 'stopped_until'}

local function forget_stop(key, scope, name)
  local since = redis.call('HGET', key, 'stopped_since')
  forget_state(scope == 'lane' and 'lane' or 'held', name)
  redis.call('HDEL', key, unpack(STOP))
  redis.call('ZREM', P .. 'holds', scope .. ':' .. name)
  if since then tell_of_hold('hold.ended', scope, name, {held_s = (now - tonumber(since)) / 1000}) end
  return since
end

-- One step of a batch's way back into its lanes: how many are left.
local function let_go(batch)
  local lanes = {}
  for _, id in ipairs(redis.call('ZRANGE', aside_key(batch), 0, BATCH - 1)) do
    local job = record(id)
    redis.call('ZREM', aside_key(batch), id)
    if job then
      to_ready(id, job)
      lanes[job.lane] = true
    end
  end
  for lane in pairs(lanes) do plan(lane, lane_settings(lane)) end
  local left = redis.call('ZCARD', aside_key(batch))
  redis.call(left > 0 and 'SADD' or 'SREM', P .. 'releasing', batch)
  return left
end

-- Whether it was held by a person.
local function release(scope, name)
  if scope == 'lane' then
    local was = forget_stop(state_key('lane', name), scope, name)
    plan(name, lane_settings(name))
    return was
  end
  local was = forget_stop(held_batch_key(name), scope, name)
  redis.call('SADD', P .. 'releasing', name)
  return was
end
