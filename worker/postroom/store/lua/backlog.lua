-- What waits in some of the lanes, by their next wake-up: {{lane, app, ready, later, claims, wake-up, paused until or '',
-- why or '', since when its oldest due job is due or '', what part of its full pace it has (4 is a quarter) or ''}, …}.
-- ARGV: now, the first lane's rank, how many lanes
local first, most = tonumber(ARGV[2]), tonumber(ARGV[3])

local function due_since(lane)
  local oldest
  local function look_at(id)
    local job = id and redis.call('HMGET', job_key(id), 'created', 'next_at')
    local since = job and job[1] and tonumber(job[2] or job[1])
    if since and since <= now and since < (oldest or math.huge) then oldest = since end
  end
  for _, class in ipairs(CLASSES) do look_at(redis.call('ZRANGE', of_lane('ready:' .. class, lane), 0, 0)[1]) end
  look_at(redis.call('ZRANGE', of_lane('later', lane), 0, 0)[1])
  return oldest and whole(oldest) or ''
end

local rows = {}
local lanes = redis.call('ZRANGE', P .. 'lanes', first, first + most - 1, 'WITHSCORES')
for i = 1, #lanes, 2 do
  local lane = lanes[i]
  local app = lane_settings(lane).app
  local till, reason = pause_of(lane, app)
  local paused = till > now
  rows[#rows + 1] = {
    lane, app, waiting(lane).all, redis.call('ZCARD', of_lane('later', lane)), redis.call('ZCARD', of_lane('claims', lane)),
    lanes[i + 1], paused and whole(till) or '', paused and reason or '', due_since(lane),
    (pace_said(state_of('lane', lane))),
  }
end
return rows
