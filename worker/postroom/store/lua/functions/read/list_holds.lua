-- All that is held, and the apps that cannot be reached: JSON, one a hold.
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

-- Mails that are held without their mailbox, by lane and reason: of the oldest ones, for each is read.
local MOST_ALONE = 1000

local function add_held_alone(rows)
  local by_cause, order = {}, {}
  for _, id in ipairs(redis.call('ZRANGE', keys.held_alone, 0, MOST_ALONE - 1)) do
    local lane, reason, since = unpack(redis.call('HMGET', keys.job(id), 'lane', 'held_reason', 'held_since'))
    local cause = (lane or '') .. ' ' .. (reason or '')
    if lane and since and not by_cause[cause] then
      by_cause[cause] = {scope = 'lane', name = lane, reason = reason or 'held', since = tonumber(since), waiting = 0}
      order[#order + 1] = by_cause[cause]
    end
    if by_cause[cause] then by_cause[cause].waiting = by_cause[cause].waiting + 1 end
  end
  for _, row in ipairs(order) do rows[#rows + 1] = cjson.encode(row) end
end

return function()
  local rows = {}
  add_holds(rows, keys.faults, fault_holds.describe)
  add_holds(rows, keys.holds, person_holds.describe)
  for _, app in ipairs(redis.call('ZRANGE', keys.unreachable, 0, -1)) do
    local row = pauses.describe_unreachable(app, states.read('app', app))
    row.waiting = waiting_for('app', app)
    rows[#rows + 1] = cjson.encode(row)
  end
  add_held_alone(rows)
  return rows
end
