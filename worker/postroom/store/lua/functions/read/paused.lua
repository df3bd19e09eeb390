-- What keeps a job waiting: {until (ms) or '', reason, the hold as JSON or '', and of its lane's pace, '' where that is
-- full: what part of the full one (4 is a quarter), when it is full again}.
-- Arguments: now, lane, its batch or ''

local function hold_of(lane, app, batch)
  local now = call.now
  local of_batch = batch ~= '' and states.read('held', batch) or {}
  if person_holds.held_until(of_batch) > now then return person_holds.describe('batch', batch, of_batch) end
  local own, apps = states.read('lane', lane), states.read('app', app)
  if person_holds.held_until(own) > now then return person_holds.describe('lane', lane, own) end
  if pauses.is_held(own) then return fault_holds.describe('lane', lane, own) end
  return pauses.is_held(apps) and fault_holds.describe('app', app, apps) or nil
end

return function(arguments)
  local lane, batch = arguments[2], arguments[3]
  local app = config.limits(lane).app
  local till, reason = pauses.of_lane(lane, app)
  local hold, is_paused = hold_of(lane, app, batch), till > call.now
  local part, full_at = pace.describe(states.read('lane', lane))
  return {
    is_paused and values.integer(till) or '', is_paused and reason or '',
    hold and cjson.encode(hold) or '', part, full_at,
  }
end
