-- Ends a claim and, if wanted, claims the lane's next job: {'settled'|'void', 'claimed', …} or {…, 'nothing'}.
-- ARGV: now, lane, id, token, move (JSON of ledger.py's `_move`), next token or '', lease (ms), 1 if the slice is over
local lane, id, token = ARGV[2], ARGV[3], ARGV[4]
local move, next_token, lease, slice_over = cjson.decode(ARGV[5]), ARGV[6], tonumber(ARGV[7]), ARGV[8] == '1'
local cfg = lane_settings(lane)

local function note_attempt()
  local attempt = move.attempt
  local last = redis.call('LINDEX', attempts_key(id), -1)
  local open = last and cjson.decode(last)
  if open and open.outcome == 'open' then
    for name, value in pairs(attempt) do open[name] = value end
    redis.call('LSET', attempts_key(id), -1, cjson.encode(open))
  else
    attempt.at, attempt.number = now, 0  -- ended before any request was made
    redis.call('RPUSH', attempts_key(id), cjson.encode(attempt))
  end
end

local function note_pace(job)
  if job.phase ~= 'sending' then return end
  local took = now - tonumber(job.marked)
  if took > SLOW or move.answered then redis.call('HSET', of_lane('lane', lane), 'slow', took > SLOW and '1' or '0') end
  -- the request may have reached Graph this late after its mark
  if took > MARGIN and redis.call('ZSCORE', of_lane('marks', lane), job.client_request_id) then
    redis.call('ZADD', of_lane('marks', lane), now, job.client_request_id)
  end
end

local function note_trouble()
  if move.status == 'accepted' then trouble_over('lane', lane) end
  if move.answered and move.pause_scope ~= 'app' then trouble_over('app', cfg.app) end
  if not move.pause_scope then return nil end
  local name = move.pause_scope == 'app' and cfg.app or lane
  pause(move.pause_scope, name, move.pause_wait, move.pause_longest, move.pause_reason)
  return paused_until(move.pause_scope, name)
end

local function settle(job)
  if job.settled == token then return 'settled' end  -- asked again after a lost reply
  -- A 202 that comes after its lease was taken back still tells the truth, unless another round is sending already.
  local late = job.in_doubt == '1' and job.doubted == token and move.status == 'accepted'
      and job.place ~= 'ended' and job.phase ~= 'sending'
  if not late and (job.place ~= 'claim' or job.token ~= token) then return 'void' end
  note_attempt()
  note_pace(job)
  leave(id, job)
  local paused = note_trouble()
  if move.sent_nothing and job.minute then
    spend_recipients(lane, tonumber(job.minute), -tonumber(job.recipients))
  end
  local fields = {settled = token, phase = '', minute = '', attempts = tonumber(job.attempts) + (move.spends_attempt and 1 or 0)}
  for _, name in ipairs({'http_status', 'graph_code', 'request_id'}) do
    fields[name] = move.attempt[name] ~= cjson.null and move.attempt[name] or ''
  end
  if move.in_doubt then doubt(job, fields, token) end
  update(id, job, fields)
  if move.status ~= 'deferred' then
    finish(id, job, move.status, move.reason)
  elseif may_expire(job) then
    finish(id, job, 'expired', 'expired')
  else
    if move.wait then to_later(id, job, now + move.wait)
    else
      to_ready(id, job)
      update(id, job, {next_at = paused or now})
    end
    set_status(id, job, 'deferred', move.reason)
  end
  return 'settled'
end

local job = record(id)
local done = job and settle(job) or 'void'
local others_wait = slice_over and redis.call('LLEN', 'postroom') + redis.call('LLEN', 'postroom.high') > 0
local found = next_token ~= '' and not others_wait and claim_next(lane, cfg, next_token, lease)
plan(lane, cfg)
return {done, found or {'nothing'}}
