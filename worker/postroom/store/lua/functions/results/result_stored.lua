-- A result was stored in a backend elsewhere: {'stored'}, or {'again'} when the job has changed meanwhile.
-- Arguments: now, id, the record's `changed` as it was stored

return function(arguments)
  local id, stored = arguments[2], arguments[3]
  local changed = redis.call('HGET', keys.job(id), 'changed') or '0'
  if changed == stored or redis.call('EXISTS', keys.job(id)) == 0 then
    redis.call('ZREM', keys.results, id)
    return {'stored'}
  end
  return {'again'}
end
