-- A result was stored in a backend elsewhere: {'stored'}, or {'again'} when the job has changed meanwhile.
-- ARGV: now, id, the record's `changed` as it was stored
local id, stored = ARGV[2], ARGV[3]
if (redis.call('HGET', job_key(id), 'changed') or '0') == stored or redis.call('EXISTS', job_key(id)) == 0 then
  redis.call('ZREM', P .. 'results', id)
  return {'stored'}
end
return {'again'}
