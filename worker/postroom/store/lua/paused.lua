-- What keeps a job waiting: {until (ms) or '', reason, the hold as JSON or '', and of its lane's pace, '' where that is
-- full: what part of the full one (4 is a quarter), when it is full again}.
-- ARGV: now, lane, its batch or ''
local lane, batch = ARGV[2], ARGV[3]
local app = lane_settings(lane).app
local till, reason = pause_of(lane, app)

local function held_by()
  local of_batch = batch ~= '' and hash(held_batch_key(batch)) or {}
  if stopped_until(of_batch) > now then return stop_said('batch', batch, of_batch) end
  local own, apps = state_of('lane', lane), state_of('app', app)
  if stopped_until(own) > now then return stop_said('lane', lane, own) end
  if is_held(own) then return fault_said('lane', lane, own) end
  return is_held(apps) and fault_said('app', app, apps) or nil
end

local held = held_by()
local pace, full_at = pace_said(state_of('lane', lane))
return {till > now and whole(till) or '', till > now and reason or '', held and cjson.encode(held) or '', pace, full_at}
