-- Jobs whose results a backend elsewhere should show, lent to this worker for half a minute: {id, …}.
-- ARGV: now
local LENT = 30000
local ids = redis.call('ZRANGEBYSCORE', P .. 'results', '-inf', whole(now), 'LIMIT', 0, BATCH)
for _, id in ipairs(ids) do redis.call('ZADD', P .. 'results', now + LENT, id) end
return ids
