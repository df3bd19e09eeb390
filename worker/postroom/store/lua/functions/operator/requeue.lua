-- Puts dead letters and expired jobs back into their lanes: {{id, answer, status}, …}. Answers: 'requeued'; 'look_up'
-- (requeued, but its outcome is unknown: it is looked up first); or why not: 'unknown', 'not_dead', 'no_mail' (it was
-- never a valid mail), 'past_expiry', 'busy' (its draft is being removed just now).
-- Arguments: now, act, options (JSON: `expires` in ms, '' for never, or absent; `twice`: send at once what may have
--            been sent; `dry`: only say what would be done), id…

local function obstacle(id, job, expires)
  if job.status ~= 'dead' and job.status ~= 'expired' then return 'not_dead' end
  if job.recipients == '0' or not content.has_mail(id, job) then return 'no_mail' end
  if expires ~= '' and tonumber(expires) <= call.now then return 'past_expiry' end
  if job.place == 'claim' then return 'busy' end
end

-- Attempts, and what was counted on the way, begin anew; their history and numbers go on.
local function renew(id, job, expires)
  transitions.leave(id, job)
  record.update(id, job, {
    attempts = '', lost = '', resends = '', look_ups = '', resend = '', ended = '', tidy = '', suspect = '',
    http_status = '', graph_code = '', request_id = '', next_at = call.now, expires = expires, requeued = call.now,
    seq = redis.call('INCR', keys.seq),  -- behind what waits already: many old letters do not stop today's mail
  })
  if expires ~= '' then redis.call('ZADD', keys.expiring, expires, id) end
end

local function look_up_first(id, job)
  redis.call('ZADD', keys.doubts, call.now, id)
  transitions.to_later(id, job, call.now)
  status.set(id, job, 'deferred', 'unknown')
end

-- A draft of an earlier try is made anew: what it was made of may have been repaired since.
local function send(id, job)
  record.update(id, job, {in_doubt = '', draft = '', lane = config.lane_of_sender(job.sender)})
  transitions.to_ready(id, job)
  status.set(id, job, 'queued')
  celery_result.show(id, job)
end

local function requeue(id, job, act, options)
  local before = audit.done_before(job, act)
  if before then return before.answer end
  local expires = options.expires or job.expires or ''
  local why_not = obstacle(id, job, expires)
  if why_not then return why_not end
  local answer = job.in_doubt and not options.twice and 'look_up' or 'requeued'
  if options.dry then return answer end
  renew(id, job, expires)
  if answer == 'look_up' then look_up_first(id, job) else send(id, job) end
  audit.note(id, job, act, 'requeued', {answer = answer})
  return answer
end

return function(arguments)
  local act, options = cjson.decode(arguments[2]), cjson.decode(arguments[3])
  return audit.each_job(arguments, 4, function(id, job) return requeue(id, job, act, options) end)
end
