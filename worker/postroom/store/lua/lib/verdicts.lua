-- When Microsoft last let an app use a mailbox, and when it refused that. By these times the doctor tells a change
-- that has not reached all of Exchange yet from a fault.
--
-- The hashes of lanes and apps have them. `allowed_at` and `refused_at` are as exact as a minute, so that a mailbox
-- that sends all the time costs one write in a minute.

local M = {}

local STEP = 60000

local function is_due(at) return call.now - tonumber(at or 0) >= STEP end

-- Whether the last answer was a refusal.
local function is_refused(state)
  return tonumber(state.refused_at or 0) > tonumber(state.allowed_at or 0)
end

function M.allowed(scope, name)
  local state = states.read(scope, name)
  if not is_refused(state) and not is_due(state.allowed_at) then return end
  if not state.allowed_first then states.write('HSET', scope, name, 'allowed_first', call.stamp) end
  states.write('HSET', scope, name, 'allowed_at', call.stamp)
end

function M.refused(scope, name, reason)
  local state = states.read(scope, name)
  local goes_on = is_refused(state) and state.refused_reason == reason
  if goes_on and not is_due(state.refused_at) then return end
  if not state.refused_first then states.write('HSET', scope, name, 'refused_first', call.stamp) end
  if not goes_on then states.write('HSET', scope, name, 'refused_since', call.stamp) end
  states.write('HSET', scope, name, 'refused_at', call.stamp, 'refused_reason', reason)
end

-- All that is known, as a list of names and values.
function M.known(scope, name)
  local state = states.read(scope, name)
  return {
    'allowed_first', state.allowed_first or '', 'allowed_at', state.allowed_at or '',
    'refused_first', state.refused_first or '', 'refused_since', state.refused_since or '',
    'refused_at', state.refused_at or '', 'refused_reason', state.refused_reason or '',
  }
end

return M
