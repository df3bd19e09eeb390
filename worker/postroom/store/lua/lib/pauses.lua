-- Pauses of lanes and apps, and trouble: while there is any, one job at a time goes on as a probe.
--
-- The hashes lane:<lane> and app:<app> have `pause_until`, `pause_reason` and `trouble`: how often in a row an answer
-- told of new trouble.

local M = {}

local integer = values.integer
local TOKEN_LOOK = 5000  -- ms: when to look again at an app that waits for a token

function M.ends(state) return tonumber(state.pause_until or 0) end

function M.is_held(state) return state.held_since ~= nil end

function M.waits_for_token(state) return M.is_held(state) and state.held_for == 'token' end

function M.in_trouble(state) return M.is_held(state) or (state.trouble ~= nil and tonumber(state.trouble) > 0) end

-- Until when a lane or an app gives no claims, for whatever reason.
function M.closed_until(state)
  if not (state.pause_until or state.stopped_since or state.held_since) then return 0 end
  local token_look = M.waits_for_token(state) and call.now + TOKEN_LOOK or 0
  return math.max(M.ends(state), person_holds.held_until(state), token_look)
end

function M.is_closed(lane, app)
  local now = call.now
  return M.closed_until(states.read('lane', lane)) > now or M.closed_until(states.read('app', app)) > now
end

-- What keeps a lane waiting, its own pause or its app's, whichever ends later: until when, and why.
function M.of_lane(lane, app)
  local lane_state, app_state = states.read('lane', lane), states.read('app', app)
  local longest = M.ends(app_state) > M.ends(lane_state) and app_state or lane_state
  return M.ends(longest), longest.pause_reason
end

-- Pauses until then at least: no pause is made shorter.
function M.extend(scope, name, till, reason)
  if till > M.ends(states.read(scope, name)) then
    states.write('HSET', scope, name, 'pause_until', integer(till), 'pause_reason', reason)
  end
end

-- Whether the answer to this job tells more than the last pause did. The four requests that were under way when the
-- first 429 came tell of one event, and a 202 among them does not end it.
function M.is_news(state, job) return tonumber(job.since or 0) >= M.ends(state) end

-- An app that failed several times in a row is called unreachable: that is logged once, and once more at its end.
-- `attempt` is the answer's part of the record, as JSON.
local UNREACHABLE = 3

local function note_unreachable(app, reason, attempt)
  if states.read('app', app).unreachable_since or reason == 'throttled' then return end
  local detail = attempt and cjson.decode(attempt).detail
  states.write('HSET', 'app', app,
    'unreachable_since', call.stamp, 'unreachable_reason', reason, 'unreachable_detail', detail or '')
  redis.call('ZADD', keys.unreachable, call.now, app)
  events.log('app.unreachable', {app = app, reason = reason, detail = detail})
end

function M.end_unreachable(app)
  local state = states.read('app', app)
  local since = tonumber(state.unreachable_since)
  if not since then return end
  events.log('app.reachable', {app = app, reason = state.unreachable_reason, after_s = (call.now - since) / 1000})
  states.write('HDEL', 'app', app, 'unreachable_since', 'unreachable_reason', 'unreachable_detail')
  redis.call('ZREM', keys.unreachable, app)
end

-- What `list_holds` says of such an app.
function M.describe_unreachable(app, state)
  return {
    scope = 'app', name = app, reason = state.unreachable_reason, since = tonumber(state.unreachable_since),
    detail = state.unreachable_detail, next_probe = M.ends(state),
  }
end

-- Pauses for `wait`, doubled for each time in a row, up to `longest` (ms).
function M.trouble(scope, name, job, wait, longest, reason, attempt)
  local state = states.read(scope, name)
  local times = tonumber(state.trouble or 0)
  if times == 0 or M.is_news(state, job) then times = states.write('HINCRBY', scope, name, 'trouble', 1) end
  if scope == 'app' and times >= UNREACHABLE then note_unreachable(name, reason, attempt) end
  local doubled = math.min(wait * 2 ^ math.min(times - 1, 20), longest)
  M.extend(scope, name, call.now + math.max(wait, doubled), reason)
end

-- Lanes that wait for their app are looked at as soon as it is free, however far off their own wake-up is.
function M.wait_for_app(app, lane) redis.call('SADD', keys.waiting_for_app(app), lane) end

function M.wake_lanes_of(app)
  local waiting = keys.waiting_for_app(app)
  redis.call('ZUNIONSTORE', keys.lanes, 2, keys.lanes, waiting, 'WEIGHTS', 1, 0, 'AGGREGATE', 'MIN')
  redis.call('DEL', waiting)
end

-- An app in trouble has one claim in all, its probe, as long as that is leased.
function M.has_probe(app_state)
  if not app_state.probe then return false end
  if call.gathered then indexes.write_gathered(true) end
  return redis.call('ZSCORE', keys.leases, app_state.probe)
end

return M
