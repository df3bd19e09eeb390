-- Who an API key belongs to, and whether it may make a request now: {its record or '', 0 or in how many ms}. A request
-- within the pace is counted here (GCRA: `most` at once, then evenly), and the day noted.
-- Arguments: now, SHA-256 of the key

return function(arguments)
  local digest, now, day_length = arguments[2], call.now, constants.DAY
  local text = redis.call('HGET', keys.api_keys, digest)
  if not text then return {'', 0} end
  local key = cjson.decode(text)
  local spent = keys.api_spent(key.id)
  local every = key.per / key.most
  local full = math.max(tonumber(redis.call('GET', spent) or 0), now) + every
  local wait = full - now - key.per
  if wait > 0 then return {text, math.ceil(wait)} end
  redis.call('SET', spent, full, 'PX', math.max(1, math.ceil(full - now)))
  local day = values.integer(math.floor(now / day_length) * day_length)
  if redis.call('HGET', keys.api_used, key.id) ~= day then redis.call('HSET', keys.api_used, key.id, day) end
  return {text, 0}
end
