-- What Celery's result backend should show for a job: {changed, state or '' (PENDING), result as JSON, {ids…}}.
-- ARGV: now, id
local id = ARGV[2]
local job = record(id)
if not job then return {} end
local state, result = celery_state(id, job)
local ids = redis.call('SMEMBERS', mirrors_key(id))
ids[#ids + 1] = id
return {job.changed or '0', state or '', result or '', ids}
