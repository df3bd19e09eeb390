-- What keeps a job waiting: {until (ms) or '', reason, the hold as JSON or '', and of its lane's pace, '' where that is
-- full: what part of the full one (4 is a quarter), when it is full again}.
-- Arguments: now, lane, its batch or '', its sender

local function hold_of(lane, app, batch, sender)
  local now, held = call.now, person_holds.name_for({batch = values.non_empty(batch), sender = sender})
  if held then return person_holds.describe('batch', held, states.read('held', held)) end
  local own, apps = states.read('lane', lane), states.read('app', app)
  if person_holds.held_until(own) > now then return person_holds.describe('lane', lane, own) end
  if pauses.is_held(own) then return fault_holds.describe('lane', lane, own) end
  return pauses.is_held(apps) and fault_holds.describe('app', app, apps) or nil
end

return function(arguments)
  local lane, batch, sender = unpack(arguments, 2, 4)
  local app = config.limits(lane).app
  local till, reason = pauses.of_lane(lane, app)
  local hold, is_paused = hold_of(lane, app, batch, sender), till > call.now
  local part, full_at = pace.describe(states.read('lane', lane))
  return {
    is_paused and values.integer(till) or '', is_paused and reason or '',
    hold and cjson.encode(hold) or '', part, full_at,
  }
end
