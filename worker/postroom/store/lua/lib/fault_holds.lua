-- Holds of lanes and apps whose configuration is at fault: they last until a probe succeeds.
--
-- Such a lane or app is in the set `faults`, and its hash has `held_since`, `held_reason`, `held_wait` (ms from the
-- last probe to the next, which is due at `pause_until`), `held_first` (the job whose answer began the hold) and, where
-- no token is to be had, `held_for` = token. Then no job is the probe, but a request for a token, due by the set
-- `probes`. The set `patience` says when to look for jobs in a lane that have been held for too long.

local M = {}

local integer = values.integer
-- A request for a token is cheap, so its first probe comes sooner.
local TOKEN_PROBE = 5000
M.LONGEST_PROBE = 1800000

function M.patience() return tonumber(config.setting('hold_patience') or constants.HOLD_PATIENCE) end

-- When a job has waited long enough: from the beginning of the hold, or from when the job was to leave (or was
-- requeued), if that is later.
function M.patience_ends(job, state)
  return math.max(tonumber(state.held_since), tonumber(job.requeued or job.scheduled or job.created)) + M.patience()
end

function M.watch_patience(lane, state)
  redis.call('ZADD', keys.patience, 'NX', tonumber(state.held_since) + M.patience(), lane)
end

-- How long the first probe waits (ms).
function M.first_wait(for_token)
  local wait = tonumber(config.setting('hold_probe') or constants.HOLD_PROBE)
  return for_token and math.min(wait, TOKEN_PROBE) or wait
end

function M.probe_at(scope, name, at, for_token)
  states.write('HSET', scope, name, 'pause_until', integer(at))
  if scope == 'app' then redis.call('ZREM', keys.probes, name) end
  if for_token then redis.call('ZADD', keys.probes, at, name) end
end

-- Begins a hold, or goes on with it: the next probe waits longer than the last one did.
function M.hold(scope, name, id, reason, for_token)
  local now, state = call.now, states.read(scope, name)
  local first = M.first_wait(for_token)
  local wait = state.held_wait and math.max(first, math.min(2 * tonumber(state.held_wait), M.LONGEST_PROBE)) or first
  states.write('HSET', scope, name, 'held_reason', reason, 'held_wait', integer(wait))
  states.write('HDEL', scope, name, 'trouble_with', 'held_for')
  if for_token then states.write('HSET', scope, name, 'held_for', 'token') end
  if not pauses.is_held(state) then
    states.write('HSET', scope, name, 'held_since', integer(now), 'held_first', id)
    redis.call('ZADD', keys.faults, now, scope .. ':' .. name)
    events.log_hold('hold.started', scope, name, {reason = reason})
  end
  if now + wait > pauses.ends(state) then states.write('HSET', scope, name, 'pause_reason', reason) end
  M.probe_at(scope, name, math.max(now + wait, pauses.ends(state)), for_token)
end

-- The same for the answer to a job. The four requests that were under way when the first answer came tell of one event.
function M.hold_on_news(scope, name, id, job, reason, for_token)
  local state = states.read(scope, name)
  if not pauses.is_held(state) or pauses.is_news(state, job) then M.hold(scope, name, id, reason, for_token) end
end

-- The next probe is due now. A pause that Graph asked for stays.
function M.probe_now(scope, name, state)
  states.write('HDEL', scope, name, 'held_wait')
  local paused = state.pause_reason ~= state.held_reason and pauses.ends(state) or 0
  M.probe_at(scope, name, math.max(call.now, paused), pauses.waits_for_token(state))
  if scope == 'app' then pauses.wake_lanes_of(name) end
end

local function end_hold(scope, name, state)
  states.write('HDEL', scope, name, 'held_since', 'held_reason', 'held_wait', 'held_first', 'held_for')
  redis.call('ZREM', keys.faults, scope .. ':' .. name)
  if scope == 'app' then redis.call('ZREM', keys.probes, name) end
  local held_s = (call.now - tonumber(state.held_since)) / 1000
  events.log_hold('hold.ended', scope, name, {reason = state.held_reason, held_s = held_s})
end

-- Ends trouble, pause and hold.
function M.end_trouble(scope, name)
  local state = states.read(scope, name)
  states.write('HDEL', scope, name, 'trouble', 'trouble_with', 'pause_until', 'pause_reason')
  if pauses.is_held(state) then end_hold(scope, name, state) end
  if scope == 'app' then
    pauses.end_unreachable(name)
    pauses.wake_lanes_of(name)
  end
end

-- The same after a good answer to this job, if it tells anything new. Returns the state before, or nil.
function M.end_on_success(scope, name, job)
  local state = states.read(scope, name)
  if not pauses.in_trouble(state) or not pauses.is_news(state, job) then return nil end
  M.end_trouble(scope, name)
  return state
end

-- The probe of job `id` ended the hold of this state. The answer that began the hold may then have been the fault of
-- its own job alone: that job is marked as `suspect`, and does not hold the lane again.
function M.suspect_first(state, id)
  local first = state.held_first
  if first and first ~= id and redis.call('EXISTS', keys.job(first)) == 1 then
    redis.call('HSET', keys.job(first), 'suspect', 1)
  end
end

-- As JSON shows it to people.
function M.describe(scope, name, state)
  return {
    scope = scope, name = name, reason = state.held_reason, since = tonumber(state.held_since),
    next_probe = pauses.ends(state),
  }
end

return M
