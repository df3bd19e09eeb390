-- Moves a job from place to place. A job enters a place by `to_…` and has to leave the one before by `leave`.

local M = {}

local update, integer = record.update, values.integer

function M.to_aside(id, job)
  redis.call('ZADD', keys.aside(person_holds.name_for(job) or job.batch), job.seq, id)
  update(id, job, {place = 'aside', next_at = ''})
end

function M.to_ready(id, job)
  if not scheduling.is_check(job) and person_holds.name_for(job) then return M.to_aside(id, job) end
  scheduling.put_ready(scheduling.ready_class(job), job.lane, job.seq, id)
  update(id, job, {place = 'ready'})
end

function M.to_later(id, job, at)
  redis.call('ZADD', keys.later(job.lane), at, id)
  update(id, job, {place = 'later', next_at = integer(at)})
end

function M.renew_lease(id, job, lease)
  local ends = call.now + lease
  redis.call('ZADD', keys.claims(job.lane), ends, id)
  indexes.put(keys.leases, ends, id)
end

function M.to_claim(id, job, claimant, is_marked)
  M.renew_lease(id, job, claimant.lease)
  if not scheduling.is_check(job) and not is_marked then redis.call('SADD', keys.unmarked(job.lane), id) end
  local speed = slots.speed_of(states.read('lane', job.lane))
  local is_counted = speed ~= 'quick'
  if is_counted then slots.take(id, speed) end
  update(id, job, {
    place = 'claim', token = claimant.token, phase = 'claimed', since = call.now, slow_hand = is_counted and 1 or '',
  })
end

-- A slot has become free: the first lane that waits for one and can use it gets a round.
local function offer_slot()
  for _ = 1, constants.BATCH do
    local lane = redis.call('ZPOPMIN', keys.slots_waiting)[1]
    if not lane or dispatch.plan_lane(lane) then return end
  end
end

function M.leave_claim(id, job)
  redis.call('ZREM', keys.claims(job.lane), id)
  if job.phase ~= 'sending' then redis.call('SREM', keys.unmarked(job.lane), id) end
  indexes.remove(keys.leases, id)
  local was_counted = job.slow_hand
  update(id, job, {token = '', phase = '', slow_hand = ''})
  if not was_counted then return end
  slots.give_back(id)
  offer_slot()
end

function M.remove_from_ready(id, lane)
  for _, class in ipairs(constants.CLASSES) do redis.call('ZREM', keys.ready(class, lane), id) end
end

function M.remove_from_aside(id, job)
  if not job.batch then return end
  for _, name in ipairs({job.batch, person_holds.part(job.batch, job.sender)}) do
    redis.call('ZREM', keys.aside(name), id)
  end
end

local function leave_ready(id, job)
  if redis.call('ZREM', keys.ready(scheduling.ready_class(job), job.lane), id) == 1 then return end
  M.remove_from_ready(id, job.lane)  -- a worker of 0.1.0 puts a job in doubt into the class of its priority
end

function M.leave(id, job)
  local place = job.place
  if place == 'ready' then leave_ready(id, job)
  elseif place == 'later' then redis.call('ZREM', keys.later(job.lane), id)
  elseif place == 'aside' then M.remove_from_aside(id, job)
  elseif place == 'claim' then M.leave_claim(id, job)
  end
end

-- To the lane that is its sender's by the settings of now.
function M.change_lane(id, job, lane)
  local due = job.place == 'later' and redis.call('ZSCORE', keys.later(job.lane), id)
  M.leave(id, job)
  update(id, job, {lane = lane})
  if due then M.to_later(id, job, tonumber(due)) else M.to_ready(id, job) end
end

-- Nobody knows what became of the attempt with this token. `resends` counts how often that happened to a mail that was
-- sent again.
function M.put_in_doubt(id, job, token)
  update(id, job, {
    resends = tonumber(job.resends or 0) + (job.in_doubt and 1 or 0),
    in_doubt = '1', look_ups = '', resend = '', resend_from = '',
    doubted = (job.doubted and job.doubted .. ' ' or '') .. token,
  })
  redis.call('ZADD', keys.doubts, call.now, id)
end

return M
