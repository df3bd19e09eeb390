-- Jobs whose results a backend elsewhere should show, lent to this worker for half a minute: {id, …}.
-- Arguments: now

local LENT = 30000

return function()
  local ids = timed_sets.members(keys.results, call.now)
  for _, id in ipairs(ids) do redis.call('ZADD', keys.results, call.now + LENT, id) end
  return ids
end
