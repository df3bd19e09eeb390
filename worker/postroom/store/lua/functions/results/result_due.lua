-- What Celery's result backend should show for a job: {changed, state or '' (PENDING), result as JSON, {ids…}}.
-- Arguments: now, id

return function(arguments)
  local id = arguments[2]
  local job = record.read(id)
  if not job then return {} end
  local state, result = celery_result.of(id, job)
  local ids = redis.call('SMEMBERS', keys.mirrors(id))
  ids[#ids + 1] = id
  return {job.changed or '0', state or '', result or '', ids}
end
