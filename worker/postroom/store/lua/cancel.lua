-- Cancels jobs that have not been sent yet: {{id, 'cancelled'|'in_doubt'|'late'|'unknown', status}, …}.
-- Of a job in doubt it means: do not send it again.
-- ARGV: now, act, id…
local act = cjson.decode(ARGV[2])

local function cancel(id, job)
  local answer = job.in_doubt and 'in_doubt' or 'cancelled'
  if job.status == 'cancelled' and done_before(job, act) then return answer end
  if job.ended or job.status == 'sending' then return 'late' end
  leave(id, job)
  finish(id, job, 'cancelled', job.in_doubt and 'unknown' or 'cancelled')
  audit(id, job, act, 'cancelled')
  return answer
end

return each(3, cancel)
