-- Cancels a job that has not been sent yet: {'cancelled'|'late'|'unknown', status}.
-- Of a job in doubt it means: do not send it again.
-- ARGV: now, id
local id = ARGV[2]
local job = record(id)
if not job then return {'unknown', ''} end
if job.status == 'cancelled' then return {'cancelled', job.status} end
if job.ended or job.status == 'sending' then return {'late', job.status} end
leave(id, job)
finish(id, job, 'cancelled', job.in_doubt and 'unknown' or 'cancelled')
plan(job.lane, lane_settings(job.lane))
return {'cancelled', 'cancelled'}
