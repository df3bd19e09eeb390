-- Makes these settings of the workers the ones that every function goes by.
-- Arguments: now, JSON of names and values

return function(arguments)
  redis.call('DEL', keys.config)
  for name, value in pairs(cjson.decode(arguments[2])) do redis.call('HSET', keys.config, name, value) end
  -- a lane that waits by the old settings may go by the new ones
  redis.call('ZUNIONSTORE', keys.lanes, 1, keys.lanes, 'WEIGHTS', 0)
  -- and may be no sender's any more
  redis.call('ZUNIONSTORE', keys.moving, 1, keys.lanes, 'WEIGHTS', 0)
  -- what is held may be dead sooner by the new ones
  redis.call('ZUNIONSTORE', keys.patience, 1, keys.patience, 'WEIGHTS', 0)
  -- whoever starts a worker may have repaired its app
  for _, app in ipairs(redis.call('ZRANGE', keys.probes, 0, -1)) do
    fault_holds.probe_now('app', app, states.read('app', app))
  end
  return {'published'}
end
