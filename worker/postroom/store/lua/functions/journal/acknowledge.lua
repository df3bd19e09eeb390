-- A consumer has done what it does with these entries: {how many were not acknowledged before}.
-- Arguments: now, consumer, id of an entry…

return function(arguments)
  local consumer = arguments[2]
  local count = redis.call('XACK', keys.journal, consumer, unpack(arguments, 3))
  journal.trim()
  return {count}
end
