-- Makes a consumer known to the journal: it gets entries of these kinds from now on. Nothing changes where it was known
-- with the same kinds.
-- Arguments: now, consumer, kinds with spaces between ('attempt', 'ended')

return function(arguments)
  local consumer, kinds = arguments[2], arguments[3]
  -- a group that was lost, with the whole stream, begins with what has come since
  local was_known = redis.call('HEXISTS', keys.journal_consumers, consumer) == 1
  redis.call('HSET', keys.journal_consumers, consumer, kinds)
  local from = was_known and '0' or '$'
  local reply = redis.pcall('XGROUP', 'CREATE', keys.journal, consumer, from, 'MKSTREAM')
  local is_known = type(reply) == 'table' and reply.err and string.find(reply.err, 'BUSYGROUP', 1, true)
  if type(reply) == 'table' and reply.err and not is_known then return redis.error_reply(reply.err) end
  return {'subscribed'}
end
