-- The point of no return, directly before a request: {'marked', now}, {'wait'} (no rate left), {'void'} (claim lost).
-- Marking again (a further request of the same attempt) renews the lease and spends the rate again.
-- ARGV: now, id, token, lease (ms), client-request-id
local id, token, lease, client_request_id = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local job = record(id)
if not job or job.place ~= 'claim' or job.token ~= token then return {'void'} end
local lane = job.lane
local cfg = lane_settings(lane)
local number = tonumber(job.tries) + 1
if job.client_request_id == client_request_id then
  return {'marked', string.format('%d', now)}  -- asked again after a lost reply
end
if job.phase == 'sending' and rate_left(lane, cfg) <= 0 then return {'wait'} end

local longest = 0
for _, rate in ipairs(cfg.rates) do longest = math.max(longest, rate[2] + MARGIN) end
local marks = of_lane('marks', lane)
redis.call('ZREMRANGEBYSCORE', marks, '-inf', now - longest)
if longest > 0 then redis.call('ZADD', marks, now, client_request_id) end
local fields = {phase = 'sending', tries = number, client_request_id = client_request_id, marked = now}
if redis.call('SREM', of_lane('unmarked', lane), id) == 1 then
  fields.minute = math.floor(now / MINUTE) * MINUTE
  spend_recipients(lane, fields.minute, tonumber(job.recipients))
end
redis.call('ZADD', of_lane('claims', lane), now + lease, id)
redis.call('ZADD', P .. 'leases', now + lease, id)
redis.call('RPUSH', attempts_key(id), cjson.encode({
  number = number, at = now, outcome = 'open', client_request_id = client_request_id,
}))
update(id, job, fields)
set_status(id, job, 'sending')
return {'marked', string.format('%d', now)}
