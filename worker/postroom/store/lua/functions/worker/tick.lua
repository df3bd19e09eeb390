-- What time brings, in bounded steps: {now, next wake-up or '', how much was done, {apps to probe, each with the end of
-- its lease}, {lines for the log, as JSON}, 1 if the settings of the workers are published}.
-- Arguments: now, worker, its slots, lease (ms)

local PROBE_LEASE = 30000
local BATCH = constants.BATCH

local function end_expired()
  return timed_sets.each_job(keys.expiring, call.now, function(id, job)
    redis.call('ZREM', keys.expiring, id)  -- a job in a claim or in doubt is looked at again when that ends
    if job.place ~= 'claim' and job.place ~= 'ended' and ending.may_expire(job) then
      ending.expire(id, job)
      dispatch.plan_lane(job.lane)
    end
  end)
end

-- Holds of people whose time is over, and batches that are on their way back from one.
local function end_person_holds()
  local ended = timed_sets.members(keys.holds, call.now)
  for _, held in ipairs(ended) do
    local scope, name = string.match(held, '^(%l+):(.*)$')
    releasing.release(scope, name)
  end
  local batches = redis.call('SRANDMEMBER', keys.releasing, 10)
  for _, batch in ipairs(batches) do releasing.put_back_some(batch) end
  return #ended + #batches
end

local function end_overdue()
  local left, done = overdue.STEP, 0
  for _, lane in ipairs(timed_sets.members(keys.patience, call.now)) do
    if left <= 0 then break end
    local looked_at, is_over = overdue.end_jobs_of(lane)
    left = left - math.max(looked_at, 1)
    if not is_over then done = done + 1 end
  end
  return done
end

local function change_lanes()
  local left = BATCH
  for _, lane in ipairs(redis.call('ZRANGE', keys.moving, 0, BATCH - 1)) do
    if left <= 0 then break end
    local moved = lane_changes.move_some(lane, left)
    if moved == 0 then redis.call('ZREM', keys.moving, lane) end
    left = left - moved
  end
  return BATCH - left
end

local function wake_lanes()
  local lanes = timed_sets.members(keys.lanes, call.now)
  for _, lane in ipairs(lanes) do dispatch.plan_lane(lane) end
  dispatch.hand_out(BATCH, {})
  return #lanes == BATCH and BATCH or 0
end

-- One worker asks for a token; if it does not report, the next one does after a while.
local function lend_probes()
  local lent, ends = {}, call.now + PROBE_LEASE
  for _, app in ipairs(timed_sets.members(keys.probes, call.now)) do
    redis.call('ZADD', keys.probes, ends, app)
    lent[#lent + 1] = {app, values.integer(ends)}
  end
  return lent
end

return function(arguments)
  local _, worker, own_slots, lease = unpack(arguments, 1, 4)
  lease = tonumber(lease)
  slots.set_count(workers.ticked(worker, own_slots))
  local done = leases.reap(lease)
  leases.notice_slow(lease)
  done = done + end_expired()
  done = done + end_person_holds()
  done = done + end_overdue()
  done = done + sweeping.ended_jobs()
  done = done + sweeping.staged_files()
  done = done + change_lanes()
  done = done + wake_lanes()
  if redis.call('EXISTS', keys.journal_consumers) == 1 then journal.trim() end
  local first = redis.call('ZRANGE', keys.lanes, 0, 0, 'WITHSCORES')
  local lines = redis.call('LPOP', keys.events, BATCH) or {}
  return {call.stamp, first[2] or '', done + #lines, lend_probes(), lines, config.are_published() and 1 or 0}
end
