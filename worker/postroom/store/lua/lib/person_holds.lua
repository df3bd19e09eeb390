-- What people hold: a lane or a batch, until it is released or its time is over.
--
-- The hashes lane:<lane> and held:<batch> keep `stopped_since`, `stopped_by`, `stopped_reason` and, where it ends by
-- itself, `stopped_until`. The set `holds` has the ends of all of them. Jobs of a held batch are in aside:<batch>.

local M = {}

-- Until when a person holds this lane or batch, as far as is known; 0 where nobody does. A release wakes what waits.
function M.held_until(state)
  if not state.stopped_since then return 0 end
  return tonumber(state.stopped_until or call.now + constants.HOUR)
end

-- Whether this batch is held, so that its jobs must not leave.
function M.is_batch_held(batch)
  if not batch then return false end
  return M.held_until(states.read('held', batch)) > call.now
end

-- As JSON shows it to people.
function M.describe(scope, name, state)
  return {
    scope = scope, name = name, reason = state.stopped_reason, by = state.stopped_by,
    since = tonumber(state.stopped_since), ends = tonumber(state.stopped_until),
  }
end

return M
