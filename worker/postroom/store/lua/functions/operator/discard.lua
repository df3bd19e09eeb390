-- Ends dead letters and expired jobs for good: {{id, 'discarded'|'unknown'|'not_dead', status}, …}.
-- Arguments: now, act, 1 to only say what would be done, id…

local function discard(id, job, act, is_dry)
  if audit.done_before(job, act) then return 'discarded' end
  if job.status ~= 'dead' and job.status ~= 'expired' then return 'not_dead' end
  if is_dry then return 'discarded' end
  transitions.leave(id, job)
  ending.finish(id, job, 'cancelled', 'discarded')
  audit.note(id, job, act, 'discarded')
  return 'discarded'
end

return function(arguments)
  local act, is_dry = cjson.decode(arguments[2]), arguments[3] == '1'
  return audit.each_job(arguments, 4, function(id, job) return discard(id, job, act, is_dry) end)
end
