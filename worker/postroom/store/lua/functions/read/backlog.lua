-- What waits in some of the lanes, by their next wake-up: {{lane, app, ready, later, claims, wake-up, paused until or
-- '', why or '', since when its oldest due job is due or '', what part of its full pace it has (4 is a quarter) or ''},
-- …}.
-- Arguments: now, the first lane's rank, how many lanes

local function due_since(lane)
  local oldest
  local function look_at(id)
    local job = id and redis.call('HMGET', keys.job(id), 'created', 'next_at')
    local since = job and job[1] and tonumber(job[2] or job[1])
    if since and since <= call.now and since < (oldest or math.huge) then oldest = since end
  end
  for _, class in ipairs(constants.CLASSES) do look_at(redis.call('ZRANGE', keys.ready(class, lane), 0, 0)[1]) end
  look_at(redis.call('ZRANGE', keys.later(lane), 0, 0)[1])
  return oldest and values.integer(oldest) or ''
end

local function row(lane, wake_up)
  local app = config.limits(lane).app
  local till, reason = pauses.of_lane(lane, app)
  local is_paused = till > call.now
  return {
    lane, app, scheduling.count_waiting(lane).all, redis.call('ZCARD', keys.later(lane)),
    redis.call('ZCARD', keys.claims(lane)), wake_up,
    is_paused and values.integer(till) or '', is_paused and reason or '',
    due_since(lane), (pace.describe(states.read('lane', lane))),
  }
end

return function(arguments)
  local first, most, rows = tonumber(arguments[2]), tonumber(arguments[3]), {}
  local lanes = redis.call('ZRANGE', keys.lanes, first, first + most - 1, 'WITHSCORES')
  for i = 1, #lanes, 2 do rows[#rows + 1] = row(lanes[i], lanes[i + 1]) end
  return rows
end
