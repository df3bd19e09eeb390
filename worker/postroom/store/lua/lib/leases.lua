-- Leases whose worker died, or whose request takes long.

local M = {}

local PASS = 1000        -- ms between two passes
local LOST_CLAIMS = 5    -- a job whose worker died so often before its mark is given up
local CUT_OFF_LEASES = 2  -- for so many leases a worker may be cut off before its mail is sent again
local SLOW_ONES = 2000   -- claims: as many as the slots of four workers

-- Nothing was sent before the mark.
local function put_back(id, job)
  local lost = tonumber(job.lost or 0) + 1
  record.update(id, job, {lost = lost})
  if lost >= LOST_CLAIMS then return ending.finish(id, job, 'dead', job.in_doubt and 'unknown' or 'poison') end
  transitions.to_later(id, job, call.now + 1000 * 2 ^ lost)
  status.set(id, job, 'deferred', job.in_doubt and 'unknown' or 'backoff')
end

-- After the mark nobody knows whether it was sent. Perhaps the worker is only cut off from Redis and will report a 202
-- when it is back: so the mail is not sent again for some time.
local function put_in_doubt(id, job, token, lease)
  attempts.finish_lost(id, job, 'worker_lost')
  transitions.put_in_doubt(id, job, token)
  rate_limits.touch(job.lane, job.client_request_id)
  record.update(id, job, {
    minute = '', http_status = '', graph_code = '', request_id = '', resend_from = call.now + CUT_OFF_LEASES * lease,
  })
  transitions.to_later(id, job, call.now + tonumber(config.setting('first_look') or constants.FIRST_LOOK))
  status.set(id, job, 'deferred', 'unknown')
end

local function take_back(id, job, lease)
  if job.place ~= 'claim' then return redis.call('ZREM', keys.leases, id) end
  local is_sending, token = job.phase == 'sending', job.token
  job.slow_hand = '1'  -- a worker of 0.1.0 does not say whether its claim is counted as slow or unknown
  transitions.leave(id, job)
  if job.tidy then transitions.to_later(id, job, call.now + constants.MINUTE)
  elseif job.left then ending.finish_late_accepted(id, job)
  elseif is_sending then put_in_doubt(id, job, token, lease)
  elseif ending.may_expire(job) then ending.finish(id, job, 'expired', 'expired')
  else put_back(id, job)
  end
  dispatch.plan_lane(job.lane)
end

local function renew_ended(lease)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys.leases, '-inf', call.stamp)) do
    local job = record.read(id)
    if job then transitions.renew_lease(id, job, lease) end
  end
end

-- Takes back leases in two passes, a second apart: one that had ended by the last pass and was not settled since. After
-- a gap (a jump of Redis' clock, or nobody ticked) every lease that ended meanwhile starts anew. Returns how many were
-- taken.
function M.reap(lease)
  local now = call.now
  local last, lost = tonumber(redis.call('GET', keys.last_pass) or now), 0
  if now - last > lease / 2 then
    renew_ended(lease)
  elseif now - last >= PASS then
    lost = timed_sets.each_job(keys.leases, last, function(id, job) take_back(id, job, lease) end)
    if lost == constants.BATCH then return lost end
  elseif now > last then
    return 0
  end
  redis.call('SET', keys.last_pass, call.stamp)
  return lost
end

-- A lane whose request has been out for long is slow from now on, not only when the answer comes. And as that request
-- may reach Graph as late as now, its mark is moved to now.
function M.notice_slow(lease)
  for _, id in ipairs(timed_sets.members(keys.leases, call.now + lease - slots.SLOW, SLOW_ONES)) do
    local lane = slots.mark_as_slow(id) and redis.call('HGET', keys.job(id), 'lane')
    if lane then
      redis.call('HSET', keys.job(id), 'slow_hand', 1)
      states.write('HSET', 'lane', lane, 'slow', '1')
    end
    local sent = redis.call('HMGET', keys.job(id), 'lane', 'phase', 'client_request_id')
    if sent[1] and sent[2] == 'sending' and sent[3] then rate_limits.touch(sent[1], sent[3]) end
  end
end

return M
