-- Forgets a consumer: nothing is kept for it any more.
-- Arguments: now, consumer

return function(arguments)
  local consumer = arguments[2]
  redis.call('HDEL', keys.journal_consumers, consumer)
  redis.call('HDEL', keys.journal_dropped, consumer)
  if redis.call('EXISTS', keys.journal) == 1 then redis.call('XGROUP', 'DESTROY', keys.journal, consumer) end
  if redis.call('EXISTS', keys.journal_consumers) == 0 then
    redis.call('UNLINK', keys.journal, keys.journal_written)
  else
    journal.trim()
  end
  return {'unsubscribed'}
end
