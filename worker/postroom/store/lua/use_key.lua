-- Who an API key belongs to, and whether it may make a request now: {its record or '', 0 or in how many ms}.
-- A request within the pace is counted here (GCRA: `most` at once, then evenly), and the day noted.
-- ARGV: now, SHA-256 of the key
local found = redis.call('HGET', P .. 'api:keys', ARGV[2])
if not found then return {'', 0} end
local key = cjson.decode(found)
local spent = P .. 'api:spent:' .. key.id
local every = key.per / key.most
local full = math.max(tonumber(redis.call('GET', spent) or 0), now) + every
local wait = full - now - key.per
if wait > 0 then return {found, math.ceil(wait)} end
redis.call('SET', spent, full, 'PX', math.ceil(full - now))
local day = whole(math.floor(now / DAY) * DAY)
if redis.call('HGET', P .. 'api:used', key.id) ~= day then redis.call('HSET', P .. 'api:used', key.id, day) end
return {found, 0}
