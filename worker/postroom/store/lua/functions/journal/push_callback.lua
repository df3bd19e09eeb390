-- Pushes a task that was to be called at the end of a mail, and removes it from the stream in the same step, so it is
-- pushed once: {'pushed'}, {'gone'} (it was pushed before), or {'refused', what Redis says}: then it stays.
-- Arguments: now, the consumer, id of the entry in the stream

return function(arguments)
  local consumer, entry_id = arguments[2], arguments[3]
  local entry = redis.call('XRANGE', keys.callbacks, entry_id, entry_id)[1]
  if not entry then return {'gone'} end
  local fields = {}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  local reply = celery_message.push(fields.queue, fields.task, fields.task_id, fields.args, fields.kwargs, false)
  if type(reply) == 'table' and reply.err then return {'refused', reply.err} end
  redis.call('XACK', keys.callbacks, consumer, entry_id)
  redis.call('XDEL', keys.callbacks, entry_id)
  return {'pushed'}
end
