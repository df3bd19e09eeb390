-- Puts dead letters and expired jobs back into their lanes: {{id, answer, status}, …}. Answers: 'requeued'; 'look_up'
-- (requeued, but its outcome is unknown: it is looked up first); or why not: 'unknown', 'not_dead', 'no_mail' (what
-- came was none), 'past_expiry', 'busy' (its draft is being removed just now).
-- ARGV: now, act, how (JSON: `expires` in ms, '' for never, or absent; `twice`: send at once what may have been sent;
--       `dry`: only say what would be done), id…
local act, how = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])

local function obstacle(id, job, expires)
  if job.status ~= 'dead' and job.status ~= 'expired' then return 'not_dead' end
  if job.recipients == '0' or not has_mail(id, job) then return 'no_mail' end
  if expires ~= '' and tonumber(expires) <= now then return 'past_expiry' end
  if job.place == 'claim' then return 'busy' end
end

-- Attempts, and what was spent on the way, begin anew; their history and numbers go on.
local function renewed(id, job, expires)
  leave(id, job)
  update(id, job, {
    attempts = '', lost = '', resends = '', look_ups = '', resend = '', ended = '', tidy = '', suspect = '',
    http_status = '', graph_code = '', request_id = '', next_at = now, expires = expires, requeued = now,
    seq = redis.call('INCR', P .. 'seq'),  -- behind what waits already: many old letters do not stop today's mail
  })
  if expires ~= '' then redis.call('ZADD', P .. 'expiring', expires, id) end
end

local function look_up_first(id, job)
  redis.call('ZADD', P .. 'doubts', now, id)
  to_later(id, job, now)
  set_status(id, job, 'deferred', 'unknown')
end

-- A draft of an earlier try is made anew: what it was made of may have been repaired since.
local function send(id, job)
  update(id, job, {in_doubt = '', draft = '', lane = lane_of_sender(job.sender)})
  to_ready(id, job)
  set_status(id, job, 'queued')
  show_result(id, job)
end

local function requeue(id, job)
  local before = done_before(job, act)
  if before then return before.answer end
  local expires = how.expires or job.expires or ''
  local why_not = obstacle(id, job, expires)
  if why_not then return why_not end
  local answer = job.in_doubt and not how.twice and 'look_up' or 'requeued'
  if how.dry then return answer end
  renewed(id, job, expires)
  if answer == 'look_up' then look_up_first(id, job) else send(id, job) end
  audit(id, job, act, 'requeued', {answer = answer})
  return answer
end

return each(4, requeue)
