-- Ends a claim: makes the transition that a worker has decided (settle_codec.py) with the job, its lane and its app.

local M = {}

local update = record.update
local NO_DRAFTS = constants.HOUR  -- how long a lane is known as one that may make no drafts

local function note_attempt(id, job, transition)
  if job.phase == 'sending' then
    attempts.finish(id, job, transition.attempt)
  else  -- a look-up, or it ended before any request was made
    attempts.push_unnumbered(id, job, transition.attempt)
  end
  if transition.look_ups then return end
  update(id, job, {
    http_status = transition.http_status or '', graph_code = transition.graph_code or '',
    request_id = transition.request_id or '',
  })
end

local function note_speed(lane, job, transition)
  if job.phase ~= 'sending' then return end
  local took = call.now - tonumber(job.since)
  local is_slow = took > slots.SLOW
  local slow = is_slow and '1' or '0'
  if (is_slow or transition.answered) and states.read('lane', lane).slow ~= slow then
    states.write('HSET', 'lane', lane, 'slow', slow)
  end
  -- the request may have reached Graph this late after its mark
  if took > rate_limits.MARGIN then rate_limits.touch(lane, job.client_request_id) end
end

local function note_success(lane, id, job)
  local before = fault_holds.end_on_success('lane', lane, job)
  if before and pauses.is_held(before) then fault_holds.suspect_first(before, id) end
end

-- What the outcome says for the lane and the app: that they can be reached.
local function end_trouble(lane, app, id, job, transition, is_failure)
  if transition.look_ups then return end  -- that a mailbox can be read does not say that one can send from it
  if transition.status == 'accepted' then
    failures.forget(lane, app)
    verdicts.allowed('lane', lane)
    verdicts.allowed('app', app)
    note_success(lane, id, job)
  elseif transition.status == 'dead' and transition.answered and not is_failure then
    -- a mailbox that refuses a mail for its own sake can be reached
    if pauses.is_held(states.read('lane', lane)) then note_success(lane, id, job) end
  end
  local is_of_app = transition.pause_scope == 'app' or transition.hold_scope == 'app'
  if transition.answered and not is_of_app and not is_failure then fault_holds.end_on_success('app', app, job) end
end

-- And what it says against them.
local function begin_trouble(lane, app, id, job, transition, is_failure)
  local scope = transition.pause_scope or transition.hold_scope
  local name = scope == 'app' and app or lane
  if transition.hold_scope then
    verdicts.refused(transition.hold_scope, name, transition.hold_reason)
    fault_holds.hold_on_news(transition.hold_scope, name, id, job, transition.hold_reason, transition.hold_for_token)
    fault_holds.watch_patience(lane, states.read(transition.hold_scope, name))
  elseif transition.own_wait then
    pauses.extend(scope, name, call.now + transition.pause_wait, transition.pause_reason)
  elseif scope then
    -- trouble with tokens is over as soon as a token is there, which the mark shows
    if scope == 'app' then
      states.write('HSET', 'app', name, 'trouble_with', job.phase == 'claimed' and 'token' or 'graph')
    end
    pauses.trouble(scope, name, job, transition.pause_wait, transition.pause_longest, transition.pause_reason,
      transition.attempt)
    if transition.in_doubt then failures.note(lane, app, job) end
    if transition.slows then pace.slow_down(lane, job) end
  elseif is_failure then
    failures.note(lane, app, job)
  end
end

-- What says nothing of the mailbox: a fault of ours, or a draft of one mail that has to be made anew.
local OF_ONE_MAIL = {
  internal_error = true, attachment_unclear = true, session_lost = true, draft_gone = true, not_201 = true,
  draft_not_removed = true, look_up_failed = true,
}

local function note_trouble(lane, app, id, job, transition)
  local is_failure = (transition.spends_attempt or transition.in_doubt) and not OF_ONE_MAIL[transition.fault]
  end_trouble(lane, app, id, job, transition, is_failure)
  begin_trouble(lane, app, id, job, transition, is_failure)
end

local function state_of_hold(lane, app, transition)
  return states.read(transition.hold_scope, transition.hold_scope == 'app' and app or lane)
end

-- Where a job is the probe, the next one is another's, if there is any.
local function wait_on_hold(id, job, state)
  if pauses.waits_for_token(state) then
    update(id, job, {next_at = ''})  -- whenever a token is there
    transitions.to_ready(id, job)
  else
    transitions.to_later(id, job, math.max(call.now, pauses.ends(state)) + 1)
  end
end

local function wait(lane, app, id, job, transition)
  if transition.hold_scope and not transition.wait then
    wait_on_hold(id, job, state_of_hold(lane, app, transition))
  elseif transition.wait then
    transitions.to_later(id, job, call.now + transition.wait)
  elseif transition.resend and tonumber(job.resend_from or 0) > call.now then
    transitions.to_later(id, job, tonumber(job.resend_from))
  else
    transitions.to_ready(id, job)
    -- a hold may end at any time
    local is_held = pauses.is_held(states.read('lane', lane)) or pauses.is_held(states.read('app', app))
    local has_no_time = is_held or job.place == 'aside'
    update(id, job, {next_at = has_no_time and '' or values.integer(math.max(call.now, (pauses.of_lane(lane, app))))})
  end
  status.set(id, job, 'deferred', transition.reason)
end

-- A mail that only a draft can carry, where the app may make none, is held alone: the other mails of the mailbox need
-- none.
local function note_held_alone(lane, id, job, transition)
  local is_held = transition.held_alone
  update(id, job, {
    held_since = is_held and (job.held_since or call.now) or '', held_reason = is_held and transition.fault or '',
  })
  if transition.held_alone then
    redis.call('ZADD', keys.held_alone, job.held_since, id)
    states.write('HSET', 'lane', lane, 'no_drafts_until', values.integer(call.now + NO_DRAFTS))
  else
    redis.call('ZREM', keys.held_alone, id)
  end
end

local function is_out_of_patience(lane, app, job, transition)
  if job.in_doubt then return false end
  if transition.held_alone then return fault_holds.patience_ends(job, job) <= call.now end
  if not transition.hold_scope then return false end
  return fault_holds.patience_ends(job, state_of_hold(lane, app, transition)) <= call.now
end

local function end_or_wait(lane, app, id, job, transition)
  if job.left then ending.finish_late_accepted(id, job)
  elseif transition.status ~= 'deferred' then ending.finish(id, job, transition.status, transition.reason)
  elseif ending.may_expire(job) then ending.finish(id, job, 'expired', 'expired')
  elseif is_out_of_patience(lane, app, job, transition) then
    ending.finish(id, job, 'dead', transition.hold_reason or transition.fault)
  else wait(lane, app, id, job, transition)
  end
end

local function settle_claim(id, job, lane, app, token, transition)
  note_attempt(id, job, transition)
  note_speed(lane, job, transition)
  note_trouble(lane, app, id, job, transition)
  if transition.sent_nothing and job.minute then recipient_limits.spend(lane, job.minute, -tonumber(job.recipients)) end
  transitions.leave(id, job)
  update(id, job, {settled = token, minute = '', lost = ''})
  if transition.spends_attempt then update(id, job, {attempts = tonumber(job.attempts or 0) + 1}) end
  if transition.in_doubt then transitions.put_in_doubt(id, job, token) end
  if transition.held_alone or job.held_since then note_held_alone(lane, id, job, transition) end
  if transition.look_ups then
    update(id, job, {look_ups = transition.look_ups, resend = transition.resend and '1' or ''})
  end
  end_or_wait(lane, app, id, job, transition)
end

-- The claim of a job that has ended and has left a draft.
local function settle_clean_up(id, job, lane, app, token, transition)
  note_trouble(lane, app, id, job, transition)
  transitions.leave(id, job)
  update(id, job, {settled = token})
  drafts.finish_clean_up(id, job, transition.cleaned_up)
end

-- A 202 that comes after its lease was taken back still tells the truth. If the mail is being sent again just now, that
-- attempt ends as accepted, whatever comes of it.
local function note_late_accepted(id, job, token, transition)
  update(id, job, {settled = token, left = attempts.entry(transition.attempt, job.tries, call.stamp)})
  if job.phase == 'sending' or job.status == 'accepted' then return end
  transitions.leave(id, job)
  ending.finish_late_accepted(id, job)
end

-- Returns 'settled', or 'void' where the claim is lost; and whether this call is the first to end the claim: then
-- nobody has been given the next one yet.
function M.settle(lane, limits, id, token, transition)
  local job = record.read(id)
  if not job then return 'void' end
  if job.settled == token then return 'settled' end  -- asked again after a lost reply
  if job.place == 'claim' and job.token == token then
    record.write_once(id, job.tidy and settle_clean_up or settle_claim, job, lane, limits.app, token, transition)
    return 'settled', true
  elseif transition.status == 'accepted' and job.doubted and string.find(job.doubted, token, 1, true) then
    note_late_accepted(id, job, token, transition)
    return 'settled'
  end
  return 'void'
end

return M
