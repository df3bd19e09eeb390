-- The lane's best job, leased to a token.

local LEFT_TO_NEWER = 30000

-- What ledger.py's `_claimed` reads of a record.
local TOLD = {
  'lane', 'status', 'created', 'attempts', 'in_doubt', 'look_ups', 'resend', 'resends', 'draft', 'to_add', 'upload', 'range',
  'drafting', 'strays', 'late_draft', 'tidy', 'suspect',
}

local function claimed(id, job, cfg)
  local flat = {}
  for i = 1, #TOLD do
    local name = TOLD[i]
    if job[name] then
      flat[#flat + 1] = name
      flat[#flat + 1] = job[name]
    end
  end
  return {'claimed', id, cfg.app, flat, read_mail(id, job) or ''}
end

-- What this token claimed before, when the reply was lost.
local function claimed_before(lane, cfg, token)
  for _, id in ipairs(redis.call('ZRANGE', of_lane('claims', lane), 0, -1)) do
    local job = redis.call('HGET', job_key(id), 'token') == token and record(id)
    if job then return claimed(id, job, cfg) end
  end
end

local function take(id, job, lane, cfg, token, lease, seen)
  local self, app = state_of('lane', lane), state_of('app', cfg.app)
  if job.resend then spare_others(lane, cfg, self, app) end
  leave(id, job)
  to_claim(id, job, token, lease)
  if seen.low > 0 and not is_check(job) then write_state('HINCRBY', 'lane', lane, 'turn', 1) end
  if in_trouble(app) then write_state('HSET', 'app', cfg.app, 'probe', id) end
end

-- A newer version took this mail in, and needs more of a worker than this one knows: it might send something else.
local function leave_to_newer(id, job)
  leave(id, job)
  to_later(id, job, now + LEFT_TO_NEWER)
  if job.ended then return end
  set_status(id, job, 'deferred', job.in_doubt and 'unknown' or 'newer_version')
  tell('mail.left', {job = id, version = job.v})
end

-- The claim, or nil; and the lane's outlook after it.
local function claim_next(lane, cfg, token, lease)
  for _ = 1, BATCH do
    local at, can_go, id, seen = outlook(lane, cfg)
    if not at or at > now or can_go < 1 then return nil, at, can_go end
    local job = record(id)
    if not job or (job.ended and not job.tidy) then  -- its record was deleted by hand; and what has ended never leaves
      for _, class in ipairs(CLASSES) do redis.call('ZREM', of_lane('ready:' .. class, lane), id) end
    elseif tonumber(job.v or 1) > FORMAT then
      leave_to_newer(id, job)
    elseif may_expire(job) then
      expire(id, job)
    elseif stands_aside(job.batch) and not is_check(job) then
      leave(id, job)
      to_aside(id, job)
    elseif tonumber(job.recipients) > cfg.daily and not is_check(job) then  -- it was taken in under other rules
      leave(id, job)
      finish(id, job, 'dead', 'too_many_recipients')
    else
      take(id, job, lane, cfg, token, lease, seen)
      return claimed(id, job, cfg), outlook_after(lane, cfg, seen)
    end
  end
end
