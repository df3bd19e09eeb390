-- Ends dead letters and expired jobs for good: {{id, 'discarded'|'unknown'|'not_dead', status}, …}.
-- ARGV: now, act, 1 to only say what would be done, id…
local act, dry = cjson.decode(ARGV[2]), ARGV[3] == '1'

local function discard(id, job)
  if done_before(job, act) then return 'discarded' end
  if job.status ~= 'dead' and job.status ~= 'expired' then return 'not_dead' end
  if dry then return 'discarded' end
  leave(id, job)
  finish(id, job, 'cancelled', 'discarded')
  audit(id, job, act, 'discarded')
  return 'discarded'
end

return each(4, discard)
