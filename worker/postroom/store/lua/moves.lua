-- Moves of a job from place to place.

local function to_aside(id, job)
  redis.call('ZADD', aside_key(job.batch), job.seq, id)
  update(id, job, {place = 'aside', next_at = ''})
end

local function to_ready(id, job)
  if not is_check(job) and stands_aside(job.batch) then return to_aside(id, job) end
  put_ready(ready_class(job), job.lane, job.seq, id)
  update(id, job, {place = 'ready'})
end

local function to_later(id, job, at)
  redis.call('ZADD', of_lane('later', job.lane), at, id)
  update(id, job, {place = 'later', next_at = whole(at)})
end

local function renew(id, job, lease)
  redis.call('ZADD', of_lane('claims', job.lane), now + lease, id)
  put_score(P .. 'leases', now + lease, id)
end

local function to_claim(id, job, hand, is_marked)
  renew(id, job, hand.lease)
  if not is_check(job) and not is_marked then redis.call('SADD', of_lane('unmarked', job.lane), id) end
  local speed = speed_of(state_of('lane', job.lane))
  if speed ~= 'quick' then redis.call('SADD', P .. 'hands:' .. speed, id) end
  update(id, job, {place = 'claim', token = hand.token, phase = 'claimed', since = now, slow_hand = speed ~= 'quick' and 1 or ''})
end

local function offer_hand()
  for _ = 1, BATCH do
    local lane = redis.call('ZPOPMIN', P .. 'hands:waiting')[1]
    if not lane or plan(lane, lane_settings(lane)) then return end
  end
end

local function leave_claim(id, job)
  redis.call('ZREM', of_lane('claims', job.lane), id)
  if job.phase ~= 'sending' then redis.call('SREM', of_lane('unmarked', job.lane), id) end
  take_out(P .. 'leases', id)
  local slow_hand = job.slow_hand
  update(id, job, {token = '', phase = '', slow_hand = ''})
  if not slow_hand then return end
  redis.call('SREM', P .. 'hands:slow', id)
  redis.call('SREM', P .. 'hands:unknown', id)
  offer_hand()
end

local function leave_ready(id, job)
  if redis.call('ZREM', of_lane('ready:' .. ready_class(job), job.lane), id) == 1 then return end
  -- a worker of 0.1.0 puts a job in doubt into its priority's
  for _, class in ipairs(CLASSES) do redis.call('ZREM', of_lane('ready:' .. class, job.lane), id) end
end

local function leave(id, job)
  if job.place == 'ready' then leave_ready(id, job)
  elseif job.place == 'later' then redis.call('ZREM', of_lane('later', job.lane), id)
  elseif job.place == 'aside' then redis.call('ZREM', aside_key(job.batch), id)
  elseif job.place == 'claim' then leave_claim(id, job)
  end
end

-- To the lane that is its sender's by the rules of now.
local function move_over(id, job, lane)
  local due = job.place == 'later' and redis.call('ZSCORE', of_lane('later', job.lane), id)
  leave(id, job)
  update(id, job, {lane = lane})
  if due then to_later(id, job, tonumber(due)) else to_ready(id, job) end
end

-- A mail that is not sent leaves no draft behind; but of a dead one in doubt the draft is what a person asks.
local function leaves_draft(job, status)
  return job.drafting and status ~= 'accepted' and not (job.in_doubt and status == 'dead')
end

local LATEST_DRAFT = MINUTE  -- by then a creation that was never answered has come about, or never will

local function tidy_up(id, job)
  update(id, job, {tidy = 1})
  to_later(id, job, now + (job.late_draft and LATEST_DRAFT or 0))
  update(id, job, {next_at = ''})
end

local function finish(id, job, status, reason)
  update(id, job, {place = 'ended', ended = now, next_at = ''})
  set_status(id, job, status, reason)
  if job.expires then redis.call('ZREM', P .. 'expiring', id) end
  if job.in_doubt then redis.call('ZREM', P .. 'doubts', id) end
  -- what a person may requeue keeps its mail
  if status == 'accepted' or status == 'cancelled' then drop_content(id, job) end
  call_back(id, job)
  if leaves_draft(job, status) or job.strays or job.late_draft then tidy_up(id, job) end
end

-- A draft that was made for a claim that is lost. It is removed by a claim, like all else: that is the mailbox's slot.
local function strand(id, job, draft)
  if job.strays and string.find(' ' .. job.strays .. ' ', ' ' .. draft .. ' ', 1, true) then return end
  update(id, job, {strays = (job.strays and job.strays .. ' ' or '') .. draft})
  if job.place ~= 'ended' then return end
  tidy_up(id, job)
  plan(job.lane, lane_settings(job.lane))
end

-- Nobody knows what became of this attempt; `resends` counts how often that happened to a mail sent again.
local function doubt(id, job, token)
  update(id, job, {
    resends = tonumber(job.resends or 0) + (job.in_doubt and 1 or 0),
    in_doubt = '1', look_ups = '', resend = '',
    doubted = (job.doubted and job.doubted .. ' ' or '') .. token,
  })
  redis.call('ZADD', P .. 'doubts', now, id)
end

-- A mail that may have left is never called expired.
local function may_expire(job)
  return job.expires and tonumber(job.expires) <= now and not job.in_doubt and not job.ended
end

local function expire(id, job)
  leave(id, job)
  finish(id, job, 'expired', 'expired')
end

-- Attempts: one entry for each that is over; the oldest are let go, for a mailbox may be held for days. The one that is
-- under way, from its mark to its end, stands in the record: `tries` is its number, and `began` when it was marked.

-- As JSON: what is `said` of it, an object that is not empty, in front of it its number and when it began.
local function attempt_text(said, number, at, client_request_id)
  local own = client_request_id and '"client_request_id":' .. cjson.encode(client_request_id) .. ',' or ''
  return '{"number":' .. number .. ',"at":' .. at .. ',' .. own .. string.sub(said, 2)
end

local function push_attempt(id, text)
  local count = redis.call('RPUSH', attempts_key(id), text)
  if count > BATCH then redis.call('LTRIM', attempts_key(id), -BATCH, -1) end
end

local function begin_attempt(id, job, client_request_id)
  local minute = whole(math.floor(now / MINUTE) * MINUTE)
  spend_recipients(job.lane, minute, tonumber(job.recipients))
  update(id, job, {
    minute = minute, tries = tonumber(job.tries or 0) + 1, began = now, since = now, phase = 'sending',
    client_request_id = client_request_id,
  })
  set_status(id, job, 'sending')
end

local function end_attempt(id, job, said)
  push_attempt(id, attempt_text(said, job.tries or '0', job.began or job.since or stamp, job.client_request_id))
end

-- `left` is the 202 that came after the job's lease had been taken back.
local function finish_as_left(id, job)
  local answer = cjson.decode(job.left)
  push_attempt(id, job.left)
  update(id, job, {http_status = answer.http_status or '', graph_code = '', request_id = answer.request_id or ''})
  finish(id, job, 'accepted')
end

-- A record that cannot be used is a dead letter from now on: it must neither stop the clock for all others nor hide.
bury_damaged = function(id, job, field)
  local lane, sound = job.lane or '', {status = '', ended = now}
  for _, name in ipairs(NUMBERS) do if not tonumber(job[name]) then sound[name] = '' end end
  for _, name in ipairs(NEEDED_NUMBERS) do sound[name] = tonumber(job[name]) or 0 end
  sound.priority = PRIORITIES[job.priority] and job.priority or 'normal'
  for _, class in ipairs(CLASSES) do redis.call('ZREM', of_lane('ready:' .. class, lane), id) end
  redis.call('ZREM', of_lane('later', lane), id)
  if job.batch then redis.call('ZREM', aside_key(job.batch), id) end
  for _, status in ipairs({'queued', 'deferred', 'sending', 'accepted', 'dead', 'cancelled', 'expired'}) do
    leave_indexes(id, status)
  end
  update(id, job, sound)
  if not job.lane then update(id, job, {lane = job.sender or 'nobody'}) end
  if job.phase == 'sending' then end_attempt(id, job, '{"outcome":"unknown","reason":"damaged"}') end
  leave_claim(id, job)
  local said = cjson.encode({outcome = 'refused', reason = 'damaged', detail = 'its record has no usable ' .. field})
  push_attempt(id, attempt_text(said, '0', stamp))
  finish(id, job, 'dead', 'damaged')
  tell('mail.damaged', {job = id, field = field})
end
