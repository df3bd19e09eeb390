-- Shows a job's result under a second id as well.
-- ARGV: now, id, the second id
local id, shown = ARGV[2], ARGV[3]
local job = record(id)
if not job then return {'unknown'} end
redis.call('SADD', mirrors_key(id), shown)
if job.status ~= 'queued' and job.status ~= 'sending' then show_result(id, job) end
return {'mirrored'}
