-- Notes what a worker goes by, and logs it if that differs from what the others go by: {'known'}.
-- Arguments: now, worker, its slots, its facts (JSON, see jobs/workers.py)

return function(arguments)
  workers.introduce(arguments[2], arguments[3], arguments[4])
  return {'known'}
end
