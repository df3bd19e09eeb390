-- What came of the request for a token that a tick lent to this worker: {'noted'}, or {'void'} if it was late.
-- ARGV: now, app, the end of the lease, what came ('token', 'held', or 'later': Entra did not say), reason, wait (ms)
local app, lease, came, reason, wait = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local state = state_of('app', app)
if redis.call('ZSCORE', P .. 'probes', app) ~= lease or not waits_for_token(state) then return {'void'} end
if came == 'token' then
  end_trouble('app', app)
elseif came == 'held' then
  hold('app', app, state.held_first, reason, true)
else
  probe_at('app', app, now + math.max(wait, tonumber(state.held_wait or 0), first_probe('app', true)), true)
end
return {'noted'}
