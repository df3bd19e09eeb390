-- The lane's best job, leased to a hand: {token = …, lease = ms, apps = those for which it has a token of Entra's}.
-- Where the job needs nothing but to be posted it is marked in the same step (moves.lua), and the claim's token is the
-- client-request-id: of a worker that dies before it posts, nobody knows whether it has.

local claimed, claimed_before, claim_next
do  -- the shared parts together may have 200 locals
  local LEFT_TO_NEWER = 30000

  -- Its first claim: what it was before is queued, and perhaps it is marked by now.
  local function is_first(job)
    return not job.changed or (job.changed == '1' and job.phase == 'sending')
  end

  -- With what claimed.py reads of the record, `_Told`.
  claimed = function(id, job, cfg, mail)
    local told = {job.lane, job.created, job.phase or ''}
    if not is_first(job) then
      told = {
        job.lane, job.created, job.phase or '', job.status or '', job.attempts or '', job.in_doubt or '', job.look_ups or '',
        job.resend or '', job.resends or '', job.draft or '', job.to_add or '', job.upload or '', job.range or '',
        job.drafting or '', job.strays or '', job.late_draft or '', job.tidy or '', job.suspect or '',
      }
    end
    return {'claimed', id, cfg.app, mail or '', told}
  end

  -- What this token claimed before, when the reply was lost.
  claimed_before = function(lane, cfg, token)
    for _, id in ipairs(redis.call('ZRANGE', of_lane('claims', lane), 0, -1)) do
      local job = redis.call('HGET', job_key(id), 'token') == token and record(id)
      if job then return claimed(id, job, cfg, read_mail(id, job)) end
    end
  end

  local PLAIN_MOST = 16384         -- what is larger counts as exactly as it is, at its mark
  local ENVELOPE, EACH = 2000, 64  -- bytes of a request beside the mail's own, and beside each recipient's

  local function is_ready_to_post(job, cfg, self, app, hand, mail)
    if not job.plain or not mail or #mail > PLAIN_MOST then return false end
    if job.in_doubt or job.tidy or job.drafting or cfg.by_draft then return false end
    return hand.apps[cfg.app] and not in_trouble(self) and not in_trouble(app)
  end

  local function take(id, job, lane, cfg, hand, seen, mail)
    local self, app = state_of('lane', lane), state_of('app', cfg.app)
    if job.resend then spare_others(lane, cfg, self, app) end
    leave(id, job)
    local at_once = is_ready_to_post(job, cfg, self, app, hand, mail)
      and not spend_upload(lane, #mail + ENVELOPE + EACH * tonumber(job.recipients))
    changing(id, function()
      to_claim(id, job, hand, at_once)
      if not at_once then return end
      spend_rate(lane, paced(cfg, self), hand.token)
      begin_attempt(id, job, hand.token)
    end)
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

  -- The claim, or nil; and the lane's outlook after it. All claims of one call together pass over so many jobs, for
  -- nobody else has Redis meanwhile.
  claim_next = function(lane, cfg, hand)
    while passed_over < BATCH do
      local at, can_go, id, seen = outlook(lane, cfg)
      if not at or at > now or can_go < 1 then return nil, at, can_go end
      local job = record(id)
      if not job or (job.ended and not job.tidy) then  -- its record was deleted by hand; and what has ended never leaves
        for _, class in ipairs(CLASSES) do redis.call('ZREM', of_lane('ready:' .. class, lane), id) end
      elseif job.sender and lane_of_sender(job.sender) ~= lane then
        move_over(id, job, lane_of_sender(job.sender))
        plan(job.lane, lane_settings(job.lane))
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
        local mail = read_mail(id, job)
        take(id, job, lane, cfg, hand, seen, mail)
        return claimed(id, job, cfg, mail), outlook_after(lane, cfg, seen)
      end
      passed_over = passed_over + 1
    end
  end
end
