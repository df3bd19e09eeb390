-- What ends a claim: the move that a worker has decided (decided.py), made with the job, its lane and its app.

local settle
do  -- made once, and not anew in each call
  local lane, cfg, id, token, move
  local TIDYING_TRIES = 8

  local function note_attempt(job)
    if job.phase == 'sending' then
      end_attempt(id, job, move.attempt)
    else  -- a look-up, or it ended before any request was made
      push_attempt(id, attempt_text(move.attempt, '0', stamp))
    end
    if move.look_ups then return end
    update(id, job, {
      http_status = move.http_status or '', graph_code = move.graph_code or '', request_id = move.request_id or '',
    })
  end

  local function note_speed(job)
    if job.phase ~= 'sending' then return end
    local took, marks = now - tonumber(job.since), of_lane('marks', lane)
    local slow = took > SLOW and '1' or '0'
    if (took > SLOW or move.answered) and state_of('lane', lane).slow ~= slow then write_state('HSET', 'lane', lane, 'slow', slow) end
    -- the request may have reached Graph this late after its mark
    if took > MARGIN then redis.call('ZADD', marks, 'XX', now, job.client_request_id) end
  end

  local function note_hold_ended(state)
    if state and is_held(state) then suspect(state, id) end
  end

  local function note_trouble(job)
    -- a fault of ours says nothing of the mailbox
    local failure = (move.spends_attempt or move.in_doubt) and move.fault ~= 'internal_error'
    if move.status == 'accepted' and not move.look_ups then
      forget_failures(lane, cfg.app)
      note_hold_ended(went_well('lane', lane, job))
    elseif move.status == 'dead' and move.answered and not failure and not move.look_ups then
      -- who refuses a mail for its own sake has looked at it: the mailbox can be reached
      if is_held(state_of('lane', lane)) then note_hold_ended(went_well('lane', lane, job)) end
    end
    -- that a mailbox can be read does not say that one can send from it
    local of_app = move.pause_scope == 'app' or move.hold_scope == 'app'
    if move.answered and not of_app and not failure and not move.look_ups then went_well('app', cfg.app, job) end
    local name = (move.pause_scope or move.hold_scope) == 'app' and cfg.app or lane
    if move.hold_scope then
      fault(move.hold_scope, name, id, job, move.hold_reason, move.hold_for_token)
      watch_patience(lane, state_of(move.hold_scope, name))
    elseif move.own_wait then
      pause(move.pause_scope, name, now + move.pause_wait, move.pause_reason)
    elseif move.pause_scope then
      -- trouble with tokens is over as soon as a token is there, which the mark shows
      if move.pause_scope == 'app' then
        write_state('HSET', 'app', name, 'trouble_with', job.phase == 'claimed' and 'token' or 'graph')
      end
      troubled(move.pause_scope, name, job, move.pause_wait, move.pause_longest, move.pause_reason)
      if move.in_doubt then failed(lane, cfg.app, job) end
      if move.slows then slow_down(lane, job) end
    elseif failure then
      failed(lane, cfg.app, job)
    end
  end

  local function give_back_recipients(job)
    if move.sent_nothing and job.minute then spend_recipients(lane, job.minute, -tonumber(job.recipients)) end
  end

  -- Where a job is the probe, the next one is another's, if there is any.
  local function wait_on_hold(job, state)
    if waits_for_token(state) then
      update(id, job, {next_at = ''})  -- whenever a token is there
      to_ready(id, job)
    else
      to_later(id, job, math.max(now, paused_until(state)) + 1)
    end
  end

  local function wait_on(job)
    if move.hold_scope and not move.wait then
      wait_on_hold(job, state_of(move.hold_scope, move.hold_scope == 'app' and cfg.app or lane))
    elseif move.wait then
      to_later(id, job, now + move.wait)
    else
      to_ready(id, job)
      -- a hold may end at any time
      local held = is_held(state_of('lane', lane)) or is_held(state_of('app', cfg.app)) or job.place == 'aside'
      update(id, job, {next_at = held and '' or whole(math.max(now, (pause_of(lane, cfg.app))))})
    end
    set_status(id, job, 'deferred', move.reason)
  end

  -- A mail that only a draft can carry, where the app may make none, is held alone: the mailbox's others need none.
  local NO_DRAFTS = 3600000

  local function note_held_alone(job)
    update(id, job, {held_since = move.held_alone and (job.held_since or now) or ''})
    if move.held_alone then write_state('HSET', 'lane', lane, 'no_drafts_until', whole(now + NO_DRAFTS)) end
  end

  local function is_out_of_patience(job)
    if job.in_doubt then return false end
    if move.held_alone then return patience_ends(job, job) <= now end
    if not move.hold_scope then return false end
    return patience_ends(job, state_of(move.hold_scope, move.hold_scope == 'app' and cfg.app or lane)) <= now
  end

  local function settle_claim(job)
    note_attempt(job)
    note_speed(job)
    note_trouble(job)
    give_back_recipients(job)
    leave(id, job)
    update(id, job, {settled = token, minute = '', lost = ''})
    if move.spends_attempt then update(id, job, {attempts = tonumber(job.attempts or 0) + 1}) end
    if move.in_doubt then doubt(id, job, token) end
    if move.held_alone or job.held_since then note_held_alone(job) end
    if move.look_ups then update(id, job, {look_ups = move.look_ups, resend = move.resend and '1' or ''}) end
    if job.left then finish_as_left(id, job)
    elseif move.status ~= 'deferred' then finish(id, job, move.status, move.reason)
    elseif may_expire(job) then finish(id, job, 'expired', 'expired')
    elseif is_out_of_patience(job) then finish(id, job, 'dead', move.hold_reason or move.fault)
    else wait_on(job)
    end
  end

  -- A job that has ended, and has left a draft. If that cannot be removed after hours, it stays.
  local function settle_tidying(job)
    local tries = tonumber(job.tidy)
    note_trouble(job)
    leave(id, job)
    update(id, job, {settled = token})
    if move.tidied or tries >= TIDYING_TRIES then
      update(id, job, {
        place = 'ended', tidy = '', draft = '', drafting = '', to_add = '', upload = '', range = '', strays = '', late_draft = '', next_at = '',
      })
    else
      update(id, job, {tidy = tries + 1})
      to_later(id, job, now + MINUTE * 2 ^ tries)
    end
  end

  -- A 202 that comes after its lease was taken back still tells the truth. If the mail is being sent again just now,
  -- that ends as accepted, whatever comes of it.
  local function believe(job)
    update(id, job, {settled = token, left = attempt_text(move.attempt, job.tries, stamp)})
    if job.phase == 'sending' or job.status == 'accepted' then return end
    leave(id, job)
    finish_as_left(id, job)
  end

  -- What came of it, and whether this call is the first to end the claim: then there is no next one yet.
  settle = function(a_lane, its_settings, job_id, its_token, a_move)
    lane, cfg, id, token, move = a_lane, its_settings, job_id, its_token, a_move
    local job = record(id)
    if not job then return 'void' end
    if job.settled == token then return 'settled' end  -- asked again after a lost reply
    if job.place == 'claim' and job.token == token then
      changing(id, function() if job.tidy then settle_tidying(job) else settle_claim(job) end end)
      return 'settled', true
    elseif move.status == 'accepted' and job.doubted and string.find(job.doubted, token, 1, true) then
      believe(job)
    else
      return 'void'
    end
    return 'settled'
  end
end
