-- Failures in a row: of a lane (`row`), and of the lanes of an app (`failing`, their names) since its last 202
-- (`accepted_at`).
--
-- A mail that is sent again after an unknown outcome gets only this one more try, and is left to a person if that fails
-- too. So while its lane or its app is failing, ordinary mails go first as probes, and a resend goes only after 1, 4,
-- 16 and 64 minutes (`spared_until`, `spared_for`): an outage of an hour must not cost them all.

local M = {}

local integer = values.integer
local FAILURES = 3  -- that many in a row, with no 202 between them, are no accident
local FAILING_WAIT, FAILING_LONGEST = 2000, 60000
local RESEND_WAIT, RESEND_LONGEST = 60000, 3600000
local ACCEPTED_STEP = 1000  -- ms: `accepted_at` is as exact as that

-- After a 202.
function M.forget(lane, app)
  local lane_state, app_state = states.read('lane', lane), states.read('app', app)
  if lane_state.row or lane_state.spared_until then
    states.write('HDEL', 'lane', lane, 'row', 'spared_until', 'spared_for')
  end
  if app_state.failing or app_state.spared_until then
    states.write('HDEL', 'app', app, 'failing', 'spared_until', 'spared_for')
  end
  if call.now - tonumber(app_state.accepted_at or 0) >= ACCEPTED_STEP then
    states.write('HSET', 'app', app, 'accepted_at', call.stamp)
  end
end

-- How many names there are, and whether `name` is among them.
local function names_in(text, name)
  local count, is_among = 0, false
  for one in string.gmatch(text or '', '%S+') do count, is_among = count + 1, is_among or one == name end
  return count, is_among
end

-- How many lanes of this app failed since its last 202, with this one; not more than matter.
local function count_failing_lane(app, lane)
  local text = states.read('app', app).failing or ''
  local count, is_among = names_in(text, lane)
  if is_among or count >= FAILURES then return count end
  states.write('HSET', 'app', app, 'failing', text .. ' ' .. lane)
  return count + 1
end

local function failing_scope(lane_state, app_state)
  if names_in(app_state.failing) >= FAILURES then return 'app', app_state end
  if tonumber(lane_state.row or 0) >= FAILURES then return 'lane', lane_state end
end

-- Until when resends have to wait; 0 where nothing fails.
function M.resends_wait_until(lane_state, app_state)
  local scope, state = failing_scope(lane_state, app_state)
  return scope and tonumber(state.spared_until or 0) or 0
end

local function set_resend_wait(scope, name, wait)
  states.write('HSET', scope, name, 'spared_for', integer(wait), 'spared_until', integer(call.now + wait))
end

-- A resend goes now: the next one waits four times as long.
function M.postpone_resends(lane, app, lane_state, app_state)
  local scope, state = failing_scope(lane_state, app_state)
  if not scope then return end
  local wait = math.min(tonumber(state.spared_for or RESEND_WAIT) * 4, RESEND_LONGEST)
  set_resend_wait(scope, scope == 'app' and app or lane, wait)
end

function M.note(lane, app, job)
  local row = states.write('HINCRBY', 'lane', lane, 'row', 1)
  if row == FAILURES then set_resend_wait('lane', lane, RESEND_WAIT) end
  -- Requests to mailboxes that hang are given up together, half a minute after they were made. Where other mail had a
  -- 202 meanwhile, they say nothing about the app.
  local others_accepted = tonumber(states.read('app', app).accepted_at or 0) > tonumber(job.since or call.now)
  if not others_accepted and count_failing_lane(app, lane) >= FAILURES then
    if not states.read('app', app).spared_until then set_resend_wait('app', app, RESEND_WAIT) end
    pauses.trouble('app', app, job, FAILING_WAIT, FAILING_LONGEST, 'failing')
    -- A little longer than the app, so that the next probe is of another lane: perhaps only this one is broken.
    pauses.extend('lane', lane, pauses.ends(states.read('app', app)) + FAILING_WAIT, 'failing')
  end
  if row >= FAILURES then pauses.trouble('lane', lane, job, FAILING_WAIT, FAILING_LONGEST, 'failing') end
end

return M
