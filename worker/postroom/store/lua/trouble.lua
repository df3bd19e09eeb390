-- Pauses of lanes and apps, trouble and holds: while there is any, one job at a time goes on as a probe.
--
-- The hashes lane:<lane> and app:<app> hold `pause_until`, `pause_reason`, `trouble` (how often in a row a new answer
-- told of it), what counts failures in a row, a lane's `row` and an app's `failing` lanes, and when an app last had a 202
-- (`accepted_at`).
--
-- A lane or an app whose configuration is at fault is held until a probe succeeds, and stands in the set `faults`:
-- `held_since`, `held_reason`, `held_wait` (from the last probe to the next, which is at `pause_until`), `held_first`
-- (the job whose answer began it) and, where no token is to be had, `held_for` = token: then no job is the probe, but
-- one request for a token, due by the set `probes`. The set `patience` says when to look for jobs in a lane that have
-- been held for too long.

local TOKEN_PROBE, LONGEST_PROBE = 5000, 1800000  -- one request for a token is cheap, so it begins sooner
local TOKEN_LOOK = 5000

local function paused_until(state) return tonumber(state.pause_until or 0) end
local function is_held(state) return state.held_since ~= nil end
local function waits_for_token(state) return is_held(state) and state.held_for == 'token' end
local function in_trouble(state) return is_held(state) or (state.trouble ~= nil and tonumber(state.trouble) > 0) end

-- Until when a lane or an app gives no claims, whoever wants it so.
local function closed_until(state)
  if not (state.pause_until or state.stopped_since or state.held_since) then return 0 end
  return math.max(paused_until(state), stopped_until(state), waits_for_token(state) and now + TOKEN_LOOK or 0)
end

local function is_closed(lane, app)
  return closed_until(state_of('lane', lane)) > now or closed_until(state_of('app', app)) > now
end

-- What keeps a lane waiting, its own pause or its app's, whichever ends later: until when, and why.
local function pause_of(lane, app)
  local own, apps = state_of('lane', lane), state_of('app', app)
  local longest = paused_until(apps) > paused_until(own) and apps or own
  return paused_until(longest), longest.pause_reason
end

-- A pause is only ever lengthened.
local function pause(scope, name, till, reason)
  local state = state_of(scope, name)
  if till > paused_until(state) then
    write_state('HSET', scope, name, 'pause_until', whole(till), 'pause_reason', reason)
  end
end

-- Whether an answer to this job tells more than the last pause did. The four that were under way when the first 429
-- came tell of one event; and a 202 among them does not end it.
local function is_news(state, job) return tonumber(job.since or 0) >= paused_until(state) end

local function troubled(scope, name, job, wait, longest, reason)
  local state = state_of(scope, name)
  local streak = tonumber(state.trouble or 0)
  if streak == 0 or is_news(state, job) then streak = write_state('HINCRBY', scope, name, 'trouble', 1) end
  local doubled = math.min(wait * 2 ^ math.min(streak - 1, 20), longest)
  pause(scope, name, now + math.max(wait, doubled), reason)
end

-- Lanes that wait for their app are looked at again as soon as it is free, however far off their own wake-up is.
local function wait_for_app(app, lane) redis.call('SADD', state_key('app', app) .. ':waiting', lane) end

local function wake_lanes_of(app)
  local waiting = state_key('app', app) .. ':waiting'
  redis.call('ZUNIONSTORE', P .. 'lanes', 2, P .. 'lanes', waiting, 'WEIGHTS', 1, 0, 'AGGREGATE', 'MIN')
  redis.call('DEL', waiting)
end

local function patience() return tonumber(setting('hold_patience') or 3 * DAY) end

-- From the hold's beginning, or from when the job was to leave (or was put back by a person), if that is later.
local function patience_ends(job, state)
  return math.max(tonumber(state.held_since), tonumber(job.requeued or job.scheduled or job.created)) + patience()
end

local function watch_patience(lane, state) redis.call('ZADD', P .. 'patience', 'NX', tonumber(state.held_since) + patience(), lane) end

local function first_probe(scope, for_token)
  local wait = tonumber(setting('hold_probe') or MINUTE)
  return for_token and math.min(wait, TOKEN_PROBE) or wait
end

local function probe_at(scope, name, at, for_token)
  write_state('HSET', scope, name, 'pause_until', whole(at))
  if scope == 'app' then redis.call('ZREM', P .. 'probes', name) end
  if for_token then redis.call('ZADD', P .. 'probes', at, name) end
end

-- The fault is there, or there still: the next probe comes later than the last one did.
local function hold(scope, name, id, reason, for_token)
  local state = state_of(scope, name)
  local first = first_probe(scope, for_token)
  local wait = state.held_wait and math.max(first, math.min(2 * tonumber(state.held_wait), LONGEST_PROBE)) or first
  write_state('HSET', scope, name, 'held_reason', reason, 'held_wait', whole(wait))
  write_state('HDEL', scope, name, 'trouble_with', 'held_for')
  if for_token then write_state('HSET', scope, name, 'held_for', 'token') end
  if not is_held(state) then
    write_state('HSET', scope, name, 'held_since', whole(now), 'held_first', id)
    redis.call('ZADD', P .. 'faults', now, scope .. ':' .. name)
    tell_of_hold('hold.started', scope, name, {reason = reason})
  end
  if now + wait > paused_until(state) then write_state('HSET', scope, name, 'pause_reason', reason) end
  probe_at(scope, name, math.max(now + wait, paused_until(state)), for_token)
end

-- Each answer that says so: the four that were under way when the first came tell of one event.
local function fault(scope, name, id, job, reason, for_token)
  local state = state_of(scope, name)
  if not is_held(state) or is_news(state, job) then hold(scope, name, id, reason, for_token) end
end

-- A pause that Graph asked for stays.
local function probe_now(scope, name, state)
  write_state('HDEL', scope, name, 'held_wait')
  local paused = state.pause_reason ~= state.held_reason and paused_until(state) or 0
  probe_at(scope, name, math.max(now, paused), waits_for_token(state))
  if scope == 'app' then wake_lanes_of(name) end
end

local function end_hold(scope, name, state)
  write_state('HDEL', scope, name, 'held_since', 'held_reason', 'held_wait', 'held_first', 'held_for')
  redis.call('ZREM', P .. 'faults', scope .. ':' .. name)
  if scope == 'app' then redis.call('ZREM', P .. 'probes', name) end
  tell_of_hold('hold.ended', scope, name, {reason = state.held_reason, held_s = (now - tonumber(state.held_since)) / 1000})
end

local function end_trouble(scope, name)
  local state = state_of(scope, name)
  write_state('HDEL', scope, name, 'trouble', 'trouble_with', 'pause_until', 'pause_reason')
  if is_held(state) then end_hold(scope, name, state) end
  if scope == 'app' then wake_lanes_of(name) end
end

-- Ends trouble and hold, and says what they were.
local function went_well(scope, name, job)
  local state = state_of(scope, name)
  if not in_trouble(state) or not is_news(state, job) then return nil end
  end_trouble(scope, name)
  return state
end

-- Where another job's probe ends a hold, the answer that began it may have been the fault of its own job alone, which
-- holds the lane no second time.
local function suspect(state, id)
  local first = state.held_first
  if first and first ~= id and redis.call('EXISTS', job_key(first)) == 1 then redis.call('HSET', job_key(first), 'suspect', 1) end
end

local forget_failures, spared_until, spare_others, failed
do  -- the shared parts together may have 200 locals
  local FAILURES = 3                       -- that many in a row, with no 202 between them, are no accident
  local FAILING_WAIT, FAILING_LONGEST = 2000, 60000
  local SPARED, SPARED_LONGEST = 60000, 3600000
  local NOTED_EACH = 1000  -- when an app last had a 202, as exactly as that

  forget_failures = function(lane, app)
    local own, apps = state_of('lane', lane), state_of('app', app)
    if own.row or own.spared_until then write_state('HDEL', 'lane', lane, 'row', 'spared_until', 'spared_for') end
    if apps.failing or apps.spared_until then write_state('HDEL', 'app', app, 'failing', 'spared_until', 'spared_for') end
    if now - tonumber(apps.accepted_at or 0) >= NOTED_EACH then write_state('HSET', 'app', app, 'accepted_at', whole(now)) end
  end

  -- How many names, and whether one is among them.
  local function names_in(text, name)
    local count, known = 0, false
    for one in string.gmatch(text or '', '%S+') do count, known = count + 1, known or one == name end
    return count, known
  end

  -- The lanes of this app that failed since its last 202, as many as matter.
  local function failing_lanes(app, lane)
    local text = state_of('app', app).failing or ''
    local count, known = names_in(text, lane)
    if known or count >= FAILURES then return count end
    write_state('HSET', 'app', app, 'failing', text .. ' ' .. lane)
    return count + 1
  end

  -- A mail that is sent again and fails again is left to a person. So while its lane or its app is failing, others go
  -- first as probes, and such mails only at growing intervals: an outage of an hour must not cost them all.
  local function failing_scope(self, app)
    if names_in(app.failing) >= FAILURES then return 'app', app end
    if tonumber(self.row or 0) >= FAILURES then return 'lane', self end
  end

  -- Until when mails that are sent again stand back; 0 where nothing fails.
  spared_until = function(self, app)
    local scope, state = failing_scope(self, app)
    return scope and tonumber(state.spared_until or 0) or 0
  end

  local function spare(scope, name, wait)
    write_state('HSET', scope, name, 'spared_for', whole(wait), 'spared_until', whole(now + wait))
  end

  spare_others = function(lane, cfg, self, app)
    local scope, state = failing_scope(self, app)
    if not scope then return end
    spare(scope, scope == 'app' and cfg.app or lane, math.min(tonumber(state.spared_for or SPARED) * 4, SPARED_LONGEST))
  end

  failed = function(lane, app, job)
    local row = write_state('HINCRBY', 'lane', lane, 'row', 1)
    if row == FAILURES then spare('lane', lane, SPARED) end
    -- Mailboxes that hang are given up together, half a minute after they were asked. Where others had a 202 meanwhile, that
    -- says nothing of the app.
    local others_went_well = tonumber(state_of('app', app).accepted_at or 0) > tonumber(job.since or now)
    if not others_went_well and failing_lanes(app, lane) >= FAILURES then
      if not state_of('app', app).spared_until then spare('app', app, SPARED) end
      troubled('app', app, job, FAILING_WAIT, FAILING_LONGEST, 'failing')
      -- A little longer than its app, so that the next probe is another lane's: perhaps only this one is broken.
      pause('lane', lane, paused_until(state_of('app', app)) + FAILING_WAIT, 'failing')
    end
    if row >= FAILURES then troubled('lane', lane, job, FAILING_WAIT, FAILING_LONGEST, 'failing') end
  end
end

-- An app in trouble has one claim in all: its probe, as long as that is leased.
local function is_probed(state)
  if not state.probe then return false end
  if gathered then write_gathered(true) end
  return redis.call('ZSCORE', P .. 'leases', state.probe)
end
