-- Mail that a hold has kept waiting for too long becomes a dead letter, in bounded steps.
--
-- The jobs of a class are in order of arrival, so a walk through them ends at the first that came too late to have
-- waited so long. A job that was to leave later than it arrived is passed over, and looked at again in the next walk.
-- How far a walk got is in the hash lane:<lane> as `patience:<class>`. A mail in doubt waits for its look-up.

local M = {}

M.STEP = 500  -- jobs that one tick looks at
local BATCH = constants.BATCH
local ENDING_CLASSES = {'high', 'again', 'normal', 'low'}

-- The state of the hold that keeps this lane: its own or its app's, whichever began first.
local function hold_of(lane, limits)
  local own, app = states.read('lane', lane), states.read('app', limits.app)
  local is_apps_older = pauses.is_held(app) and tonumber(app.held_since) < tonumber(own.held_since or 0)
  if not pauses.is_held(own) or is_apps_older then own = app end
  return pauses.is_held(own) and own or nil
end

local function end_held(id, job, hold)
  attempts.push_unnumbered(id, job, cjson.encode({
    outcome = 'held', reason = hold.held_reason,
    detail = 'held since ' .. values.iso(tonumber(hold.held_since)) .. ', longer than POSTROOM_HOLD_PATIENCE',
  }))
  transitions.leave(id, job)
  ending.finish(id, job, 'dead', job.in_doubt and 'unknown' or hold.held_reason)
end

-- One step through a class: how many were looked at, how many of them ended, when the next one is due, and whether the
-- walk is over.
local function walk(lane, class, hold)
  local now, patience, field = call.now, fault_holds.patience(), 'patience:' .. class
  local from, ended, next_due = states.read('lane', lane)[field] or '0', 0, now + patience
  local ready = keys.ready(class, lane)
  local entries = redis.call('ZRANGEBYSCORE', ready, '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', 0, BATCH)
  for i = 1, #entries, 2 do
    local id, job = entries[i], record.read(entries[i])
    local ends = job and fault_holds.patience_ends(job, hold)
    if not job then redis.call('ZREM', ready, id)
    elseif ends <= now then
      end_held(id, job, hold)
      ended = ended + 1
    else
      next_due = math.min(next_due, ends)
      if tonumber(job.requeued or job.created) + patience > now then return i, ended, next_due, true end
    end
    from = entries[i + 1]
  end
  states.write('HSET', 'lane', lane, field, from)
  return #entries / 2, ended, next_due, #entries < 2 * BATCH
end

local function end_walk(lane, looked_at, next_due)
  for _, class in ipairs(ENDING_CLASSES) do states.write('HDEL', 'lane', lane, 'patience:' .. class) end
  -- a long walk passed over jobs whose time is not known any more
  local at = looked_at < BATCH and next_due or math.min(next_due, call.now + constants.MINUTE)
  redis.call('ZADD', keys.patience, at, lane)
end

-- Looks at a lane whose time has come. Returns how many jobs were looked at, and whether that was all for now.
function M.end_jobs_of(lane)
  local now, limits = call.now, config.limits(lane)
  local hold = hold_of(lane, limits)
  if not hold then
    redis.call('ZREM', keys.patience, lane)
    return 1, true
  end
  scheduling.due_to_ready(lane)
  local next_due = math.max(scheduling.first_later(lane) or now + fault_holds.patience(), now + 1000)
  local looked_at, ended, is_over = 0, 0, true
  for _, class in ipairs(ENDING_CLASSES) do
    local n, gone, at, is_all = walk(lane, class, hold)
    looked_at, ended, next_due, is_over = looked_at + n, ended + gone, math.min(next_due, at), is_over and is_all
  end
  if is_over then end_walk(lane, looked_at, next_due) end
  if ended > 0 then
    events.log_hold('hold.overdue', 'lane', lane, {reason = hold.held_reason, jobs = ended})
    dispatch.plan(lane, limits)
  end
  return looked_at, is_over
end

return M
