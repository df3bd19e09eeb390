-- Cancels jobs that have not been sent yet: {{id, 'cancelled'|'in_doubt'|'late'|'unknown', status}, …}. Of a job in
-- doubt it means: do not send it again.
-- Arguments: now, act, id…

local function cancel(id, job, act)
  local answer = job.in_doubt and 'in_doubt' or 'cancelled'
  if job.status == 'cancelled' and audit.done_before(job, act) then return answer end
  if job.ended or job.status == 'sending' then return 'late' end
  transitions.leave(id, job)
  ending.finish(id, job, 'cancelled', job.in_doubt and 'unknown' or 'cancelled')
  audit.note(id, job, act, 'cancelled')
  return answer
end

return function(arguments)
  local act = cjson.decode(arguments[2])
  return audit.each_job(arguments, 3, function(id, job) return cancel(id, job, act) end)
end
