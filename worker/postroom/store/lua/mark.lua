-- The point of no return, directly before a request: {'marked', now}, {'wait', ms} (paused since the claim, or no rate
-- or upload left), {'void'} (claim lost). A further request of the same attempt renews the lease and spends again.
-- ARGV: now, id, token, lease (ms), client-request-id, bytes of the request
local id, token, lease, client_request_id, bytes = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local job = record(id)
if not job or job.place ~= 'claim' or job.token ~= token then return {'void'} end
local lane = job.lane
local cfg = paced(lane_settings(lane), state_of('lane', lane))

local WAIT = 1000
local FRESH = 100  -- office.py's FRESH_LEASE_S: a lease as young as that is as good as a new one

local function is_paused() return is_closed(lane, cfg.app) end

if job.phase == 'sending' and job.client_request_id == client_request_id then
  return {'marked', whole(now)}  -- asked again after a lost reply
end
if is_paused() or (job.phase == 'sending' and rate_left(lane, cfg) <= 0) then return {'wait', WAIT} end
local wait = spend_upload(lane, bytes)
if wait then return {'wait', wait} end
spend_rate(lane, cfg, client_request_id)
-- since the last mark the lease may be as it was
if job.phase == 'sending' or now - tonumber(job.since) >= FRESH then renew(id, job, lease) end
changing(id, function()
  if job.phase == 'sending' then return update(id, job, {client_request_id = client_request_id, since = now}) end
  if state_of('app', cfg.app).trouble_with == 'token' then went_well('app', cfg.app, job) end
  redis.call('SREM', of_lane('unmarked', lane), id)
  begin_attempt(id, job, client_request_id)
end)
return {'marked', whole(now)}
