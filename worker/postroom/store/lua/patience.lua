-- A part of tick.lua: mail that a hold has kept waiting for too long ends as a dead letter, in bounded steps.
--
-- Within a class jobs stand in order of arrival, so a walk ends at the first that came too late to have waited so
-- long. Who was to leave later than it arrived is passed over, and looked at again in the next walk. How far a walk
-- got stands in the lane's hash as `patience:<class>`. A mail in doubt waits for its look-up.

local PATIENCE_STEP = 500
local OUT_OF_PATIENCE = {'high', 'again', 'normal', 'low'}

local function hold_of(lane, cfg)
  local own, app = state_of('lane', lane), state_of('app', cfg.app)
  if not is_held(own) or (is_held(app) and tonumber(app.held_since) < tonumber(own.held_since)) then own = app end
  return is_held(own) and own or nil
end

local function end_held(id, job, held)
  local said = cjson.encode({
    outcome = 'held', reason = held.held_reason,
    detail = 'held since ' .. iso(tonumber(held.held_since)) .. ', longer than POSTROOM_HOLD_PATIENCE',
  })
  push_attempt(id, attempt_text(said, '0', stamp))
  leave(id, job)
  finish(id, job, 'dead', job.in_doubt and 'unknown' or held.held_reason)
end

-- One step through a class: how many were looked at, how many of them ended, when the next one is due, and whether
-- the walk is over.
local function walk(lane, class, held)
  local field = 'patience:' .. class
  local from, ended, next_due = state_of('lane', lane)[field] or '0', 0, now + patience()
  local found = redis.call('ZRANGEBYSCORE', of_lane('ready:' .. class, lane), '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', 0, BATCH)
  for i = 1, #found, 2 do
    local id, job = found[i], record(found[i])
    local ends = job and patience_ends(job, held)
    if not job then redis.call('ZREM', of_lane('ready:' .. class, lane), id)
    elseif ends <= now then
      end_held(id, job, held)
      ended = ended + 1
    else
      next_due = math.min(next_due, ends)
      if tonumber(job.requeued or job.created) + patience() > now then return i, ended, next_due, true end
    end
    from = found[i + 1]
  end
  local over = #found < 2 * BATCH
  write_state('HSET', 'lane', lane, field, from)
  return #found / 2, ended, next_due, over
end

-- Looks at a lane whose time has come: how many jobs were looked at, and whether that was all for now.
local function end_held_too_long(lane)
  local cfg = lane_settings(lane)
  local held = hold_of(lane, cfg)
  if not held then
    redis.call('ZREM', P .. 'patience', lane)
    return 1, true
  end
  due_to_ready(lane)
  local looked_at, ended, next_due, over = 0, 0, math.max(first_later(lane) or now + patience(), now + 1000), true
  for _, class in ipairs(OUT_OF_PATIENCE) do
    local n, gone, at, all = walk(lane, class, held)
    looked_at, ended, next_due, over = looked_at + n, ended + gone, math.min(next_due, at), over and all
  end
  if over then
    for _, class in ipairs(OUT_OF_PATIENCE) do write_state('HDEL', 'lane', lane, 'patience:' .. class) end
    -- a long walk passed over some whose time is not known any more
    redis.call('ZADD', P .. 'patience', looked_at < BATCH and next_due or math.min(next_due, now + MINUTE), lane)
  end
  if ended > 0 then
    tell_of_hold('hold.overdue', 'lane', lane, {reason = held.held_reason, jobs = ended})
    plan(lane, cfg)
  end
  return looked_at, over
end
