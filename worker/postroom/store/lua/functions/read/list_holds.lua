-- All that is held: JSON, one a hold.
-- Arguments: now

local function waiting_in(lane) return scheduling.count_waiting(lane).all + redis.call('ZCARD', keys.later(lane)) end

local function waiting_for(scope, name)
  if scope == 'lane' then return waiting_in(name) end
  if scope == 'batch' then return redis.call('ZCARD', keys.aside(name)) end
  local sum = 0
  for _, lane in ipairs(redis.call('SMEMBERS', keys.waiting_for_app(name))) do sum = sum + waiting_in(lane) end
  return sum
end

local function add_holds(rows, set, describe)
  for _, held in ipairs(redis.call('ZRANGE', set, 0, -1)) do
    local scope, name = string.match(held, '^(%l+):(.*)$')
    local row = describe(scope, name, states.read(scope == 'batch' and 'held' or scope, name))
    row.waiting = waiting_for(scope, name)
    rows[#rows + 1] = cjson.encode(row)
  end
end

return function()
  local rows = {}
  add_holds(rows, keys.faults, fault_holds.describe)
  add_holds(rows, keys.holds, person_holds.describe)
  return rows
end
