-- What Celery's result backend should show for a job: {changed, state or '' (PENDING), result as JSON, ids…}.
-- ARGV: now, id
local id = ARGV[2]
local job = record(id)
if not job then return {} end
local state, result = celery_state(id, job)
return {job.changed, state or '', result or '', id, unpack(redis.call('SMEMBERS', P .. 'mirrors:' .. id))}
