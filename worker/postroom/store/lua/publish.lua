-- Makes these settings of the workers the ones that every script goes by.
-- ARGV: now, JSON of names and values
redis.call('DEL', P .. 'config')
for name, value in pairs(cjson.decode(ARGV[2])) do redis.call('HSET', P .. 'config', name, value) end
-- a lane that waits by the old rules may go by the new ones
redis.call('ZUNIONSTORE', P .. 'lanes', 1, P .. 'lanes', 'WEIGHTS', 0)
-- and may be no sender's any more
redis.call('ZUNIONSTORE', P .. 'moving', 1, P .. 'lanes', 'WEIGHTS', 0)
-- what is held may be dead sooner by the new ones
redis.call('ZUNIONSTORE', P .. 'patience', 1, P .. 'patience', 'WEIGHTS', 0)
-- whoever starts a worker may have repaired its app
for _, app in ipairs(redis.call('ZRANGE', P .. 'probes', 0, -1)) do probe_now('app', app, state_of('app', app)) end
return {'published'}
