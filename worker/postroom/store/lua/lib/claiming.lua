-- Leases the best job of a lane to a claimant: {token, lease (ms), worker = its name, apps = those for which it has a
-- token of Entra's}.
--
-- A job that only needs to be posted is marked in the same step, and the token of the claim is its client-request-id:
-- if the worker dies before it posts, nobody knows whether it has.

local M = {}

local LEFT_TO_NEWER = 30000  -- ms
local PLAIN_MOST = 16384     -- bytes: a larger mail is counted exactly, at its mark
local ENVELOPE, PER_RECIPIENT = 2000, 64  -- bytes of a request besides the mail

-- The claimant that a call's arguments describe; those from `first` on are its apps.
function M.claimant(token, lease, worker, arguments, first)
  local apps = {}
  for n = first, #arguments do apps[arguments[n]] = true end
  return {token = token, lease = tonumber(lease), worker = worker, apps = apps}
end

-- The first claim of a job: it was queued before, and perhaps it is marked by now.
local function is_first_claim(job)
  return not job.changed or (job.changed == '1' and job.phase == 'sending')
end

-- What a worker is told of a claim; the last part is what claim_codec.py reads of the record.
function M.describe(id, job, limits, mail)
  local fields = {job.lane, job.created, job.phase or ''}
  if not is_first_claim(job) then
    fields = {
      job.lane, job.created, job.phase or '', job.status or '', job.attempts or '', job.in_doubt or '',
      job.look_ups or '', job.resend or '', job.resends or '', job.draft or '', job.to_add or '', job.upload or '',
      job.range or '', job.drafting or '', job.strays or '', job.late_draft or '', job.tidy or '', job.suspect or '',
    }
  end
  return {'claimed', id, limits.app, mail or '', fields}
end

-- A claim or none, as it is returned to a worker: with the number of rounds that wait.
function M.reply(claim)
  if not claim then return {'nothing'} end
  claim[6] = celery_message.rounds_waiting()
  return claim
end

-- What this token claimed in the lane before, when the reply was lost.
function M.claimed_before(lane, limits, token)
  for _, id in ipairs(redis.call('ZRANGE', keys.claims(lane), 0, -1)) do
    local job = redis.call('HGET', keys.job(id), 'token') == token and record.read(id)
    if job then return M.describe(id, job, limits, content.read_mail(id, job)) end
  end
end

local function is_ready_to_post(job, limits, lane_state, app_state, claimant, mail)
  if not job.plain or not mail or #mail > PLAIN_MOST then return false end
  if job.in_doubt or job.tidy or job.drafting or limits.by_draft then return false end
  return claimant.apps[limits.app] and not pauses.in_trouble(lane_state) and not pauses.in_trouble(app_state)
end

local function mark(id, job, lane, limits, lane_state, claimant)
  rate_limits.spend(lane, pace.paced(limits, lane_state), claimant.token)
  attempts.begin(id, job, claimant.token, claimant.worker)
end

local function write_claim(id, job, claimant, lane, limits, lane_state, is_marked)
  transitions.to_claim(id, job, claimant, is_marked)
  if is_marked then mark(id, job, lane, limits, lane_state, claimant) end
end

local function take(id, job, lane, limits, claimant, seen, mail)
  local lane_state, app_state = states.read('lane', lane), states.read('app', limits.app)
  if job.resend then failures.postpone_resends(lane, limits.app, lane_state, app_state) end
  transitions.leave(id, job)
  local is_marked = is_ready_to_post(job, limits, lane_state, app_state, claimant, mail)
    and not upload_limits.spend(lane, #mail + ENVELOPE + PER_RECIPIENT * tonumber(job.recipients))
  record.write_once(id, write_claim, job, claimant, lane, limits, lane_state, is_marked)
  if seen.low > 0 and not scheduling.is_check(job) then states.write('HINCRBY', 'lane', lane, 'turn', 1) end
  if pauses.in_trouble(app_state) then states.write('HSET', 'app', limits.app, 'probe', id) end
end

-- A newer version took this mail in, and needs more of a worker than this one knows: it might send something else.
local function leave_to_newer(id, job)
  transitions.leave(id, job)
  transitions.to_later(id, job, call.now + LEFT_TO_NEWER)
  if job.ended then return end
  status.set(id, job, 'deferred', job.in_doubt and 'unknown' or 'newer_version')
  events.log('mail.left', {job = id, version = job.v})
end

-- Removes a job from the ready set if it must not be claimed. Returns whether it was.
local function pass_over(id, job, lane, limits)
  if not job or (job.ended and not job.tidy) then  -- its record was deleted by hand, or an ended job was put there
    transitions.remove_from_ready(id, lane)
  elseif job.sender and config.lane_of_sender(job.sender) ~= lane then
    transitions.change_lane(id, job, config.lane_of_sender(job.sender))
    dispatch.plan_lane(job.lane)
  elseif tonumber(job.v or 1) > constants.FORMAT then
    leave_to_newer(id, job)
  elseif ending.may_expire(job) then
    ending.expire(id, job)
  elseif person_holds.name_for(job) and not scheduling.is_check(job) then
    transitions.leave(id, job)
    transitions.to_aside(id, job)
  elseif tonumber(job.recipients) > limits.daily and not scheduling.is_check(job) then  -- taken in by other limits
    transitions.leave(id, job)
    ending.finish(id, job, 'dead', 'too_many_recipients')
  else
    return false
  end
  return true
end

-- The claim, or nil; and the lane's outlook after it. All claims of one call together pass over a batch of jobs at
-- most, for nobody else has Redis meanwhile.
function M.claim_next(lane, limits, claimant)
  -- Redis has lost what the workers published: nothing leaves by other limits than theirs. A tick publishes it again.
  if not config.are_published() then return nil, call.now + constants.NO_CLAIM_LOOK, 0 end
  while call.passed_over < constants.BATCH do
    local at, can_go, id, seen = scheduling.outlook(lane, limits)
    if not at or at > call.now or can_go < 1 then return nil, at, can_go end
    local job = record.read(id)
    if not pass_over(id, job, lane, limits) then
      local mail = content.read_mail(id, job)
      take(id, job, lane, limits, claimant, seen, mail)
      return M.describe(id, job, limits, mail), scheduling.outlook_after_claim(lane, limits, seen)
    end
    call.passed_over = call.passed_over + 1
  end
end

return M
