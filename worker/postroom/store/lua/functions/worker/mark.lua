-- The point of no return, directly before a request: {'marked', now}, {'wait', ms} (paused since the claim, or no rate
-- or upload left), {'void'} (the claim is lost). A further request of the same attempt renews the lease and spends
-- again.
-- Arguments: now, id, token, lease (ms), the worker's name or '', client-request-id, bytes of the request

local WAIT = 1000

local function mark(id, job, lane, app, client_request_id, worker)
  if job.phase == 'sending' then
    return record.update(id, job, {client_request_id = client_request_id, since = call.now})
  end
  if states.read('app', app).trouble_with == 'token' then fault_holds.end_on_success('app', app, job) end
  redis.call('SREM', keys.unmarked(lane), id)
  attempts.begin(id, job, client_request_id, worker)
end

return function(arguments)
  local _, id, token, lease, worker, client_request_id, bytes = unpack(arguments, 1, 7)
  local job = record.read(id)
  if not job or job.place ~= 'claim' or job.token ~= token then return {'void'} end
  local lane, is_sending = job.lane, job.phase == 'sending'
  local limits = pace.paced(config.limits(lane), states.read('lane', lane))
  if is_sending and job.client_request_id == client_request_id then
    return {'marked', call.stamp}  -- asked again after a lost reply
  end
  local has_no_rate = is_sending and rate_limits.left(lane, limits) <= 0
  if has_no_rate or pauses.is_closed(lane, limits.app) then return {'wait', WAIT} end
  local wait = upload_limits.spend(lane, tonumber(bytes))
  if wait then return {'wait', wait} end
  rate_limits.spend(lane, limits, client_request_id)
  -- a young lease is as good as a new one; but since the last mark the lease may be of any age
  if is_sending or call.now - tonumber(job.since) >= constants.FRESH_LEASE then
    transitions.renew_lease(id, job, tonumber(lease))
  end
  record.write_once(id, mark, job, lane, limits.app, client_request_id, worker)
  return {'marked', call.stamp}
end
