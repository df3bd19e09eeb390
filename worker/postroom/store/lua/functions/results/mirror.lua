-- Shows a job's result under a second id as well.
-- Arguments: now, id, the second id

return function(arguments)
  local id, shown = arguments[2], arguments[3]
  local job = record.read(id)
  if not job then return {'unknown'} end
  redis.call('SADD', keys.mirrors(id), shown)
  if job.status ~= 'queued' and job.status ~= 'sending' then celery_result.show(id, job) end
  return {'mirrored'}
end
