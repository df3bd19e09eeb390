-- What came of the request for a token that a tick lent to this worker: {'noted'}, or {'void'} if it was late.
-- Arguments: now, app, the end of the lease, what came ('token', 'held', or 'later': Entra did not say), reason, wait
--            (ms)

return function(arguments)
  local _, app, lease, outcome, reason, wait = unpack(arguments, 1, 6)
  local state = states.read('app', app)
  if redis.call('ZSCORE', keys.probes, app) ~= lease or not pauses.waits_for_token(state) then return {'void'} end
  if outcome == 'token' then
    verdicts.allowed('app', app)
    fault_holds.end_trouble('app', app)
  elseif outcome == 'held' then
    verdicts.refused('app', app, reason)
    fault_holds.hold('app', app, state.held_first, reason, true)
  else
    local longest = math.max(tonumber(wait), tonumber(state.held_wait or 0), fault_holds.first_wait(true))
    fault_holds.probe_at('app', app, call.now + longest, true)
  end
  return {'noted'}
end
