-- Which lanes get a round, and when. The set `waiting` has the lanes that wait for one, in their order; the set `lanes`
-- has the wake-up of each lane that waits for anything. The hash lane:<lane> has `asked` (rounds that are on their way)
-- and `asked_at` (since when).

local M = {}

M.TURNS = 8  -- rounds that one move hands out at most; a tick hands out a batch
local ROUND_LOST_AFTER = 30000  -- ms: a round that has not started by then was lost

local HIGH_QUEUE, NORMAL_QUEUE = constants.HIGH_QUEUE, constants.NORMAL_QUEUE

local function push_round(lane, queue)
  local id = 'round-' .. redis.call('INCR', keys.rounds)
  celery_message.push(queue, constants.ROUND_TASK, id, '[' .. cjson.encode(lane) .. ']', '{}', true)
end

-- How many rounds a queue takes until it is longer than twice the slots. The queue that is read first does not wait for
-- the other.
local function room_in(queue)
  local length = celery_message.length(HIGH_QUEUE)
  if queue == NORMAL_QUEUE then length = length + celery_message.length(NORMAL_QUEUE) end
  return 2 * (slots.count() or 0) + 1 - length
end

-- How many rounds of a lane are on their way, since when, and when they count as lost.
function M.outstanding(lane)
  local now, lane_state = call.now, states.read('lane', lane)
  local count, since = tonumber(lane_state.asked or 0), tonumber(lane_state.asked_at or 0)
  if count <= 0 or since + ROUND_LOST_AFTER <= now or since > now then count, since = 0, now end
  return count, since, since + ROUND_LOST_AFTER
end

-- One of them has started.
function M.note_started(lane)
  local asked = tonumber(states.read('lane', lane).asked or 0)
  if asked > 0 then states.write('HSET', 'lane', lane, 'asked', asked - 1) end
end

local function queue_of(lane)
  if call.no_high[lane] then return NORMAL_QUEUE end
  return redis.call('EXISTS', keys.ready('high', lane)) == 1 and HIGH_QUEUE or NORMAL_QUEUE
end

-- As many rounds are on their way as the lane wants: look at it again when they must be lost.
local function ask_no_more(lane, lost_at)
  redis.call('ZREM', keys.waiting, lane)
  redis.call('ZADD', keys.lanes, lost_at, lane)
  return 'enough'
end

-- Asks for one round more, if the lane wants more than are on their way. Returns 'asked' where it wants another one
-- still, 'enough' or 'full'.
local function ask_once(lane, wanted, queue)
  local now = call.now
  local count, since, lost_at = M.outstanding(lane)
  if count >= wanted then return ask_no_more(lane, lost_at) end
  if room_in(queue) <= 0 then
    redis.call('ZADD', keys.waiting, 'NX', now, lane)
    redis.call('ZADD', keys.lanes, now + constants.NO_CLAIM_LOOK, lane)
    return 'full'
  end
  push_round(lane, queue)
  states.write('HSET', 'lane', lane, 'asked', count + 1, 'asked_at', since)
  if count + 1 >= wanted then return ask_no_more(lane, lost_at) end
  redis.call('ZADD', keys.waiting, now, lane)  -- behind all others that wait
  redis.call('ZADD', keys.lanes, now + constants.NO_CLAIM_LOOK, lane)
  return 'asked'
end

-- Nothing to ask for now: the lane sleeps until then, or until it gets a job.
local function sleep(lane, app, at)
  if at then
    redis.call('ZREM', keys.waiting, lane)
    redis.call('ZADD', keys.lanes, at, lane)
    return
  end
  if redis.call('ZREM', keys.lanes, lane) == 0 then return end  -- a lane that waits for anything has a wake-up
  redis.call('ZREM', keys.waiting, lane)
  redis.call('ZREM', keys.slots_waiting, lane)
  redis.call('SREM', keys.waiting_for_app(app), lane)
end

-- Hands out rounds as long as the queue has room: one to the lane that waits longest, in turn, not all to one lane.
-- `can_go`: how many jobs can go of those lanes of which it is known. To hand out rounds changes no outlook, so each
-- lane is looked at once.
function M.hand_out(turns, can_go)
  local now = call.now
  for _ = 1, turns do
    local lane = redis.call('ZRANGE', keys.waiting, 0, 0)[1]
    local queue = lane and queue_of(lane)
    if not lane or room_in(queue) <= 0 then return end  -- before the lane is looked at, which takes longer
    local limits, at = config.limits(lane), now
    if not can_go[lane] then at, can_go[lane] = scheduling.outlook(lane, limits) end
    if not at or at > now then sleep(lane, limits.app, at)
    else ask_once(lane, can_go[lane], queue)
    end
  end
end

local function ask_for_normal(lane, can_go)
  local count, _, lost_at = M.outstanding(lane)
  local wants = count < can_go
  redis.call('ZADD', keys.lanes, wants and call.now + constants.NO_CLAIM_LOOK or lost_at, lane)
  -- a lane that waits already gets its turn as soon as a round has started
  if wants and redis.call('ZADD', keys.waiting, 'NX', call.now, lane) == 1 then
    M.hand_out(M.TURNS, {[lane] = can_go})
  end
end

-- Makes sure that the lane's jobs will be fetched: rounds for what can go now, a wake-up for what must wait. Returns
-- whether a job can go now, and how many. `at` and `can_go`: the lane's outlook, where it is known.
function M.plan(lane, limits, at, can_go)
  local now = call.now
  if not can_go then at, can_go = scheduling.outlook(lane, limits) end
  if not at or at > now then
    sleep(lane, limits.app, at)
  elseif can_go < 1 then  -- more of it is due than one look takes up
    redis.call('ZADD', keys.lanes, now, lane)
  elseif queue_of(lane) == HIGH_QUEUE then
    repeat local answer = ask_once(lane, can_go, HIGH_QUEUE) until answer ~= 'asked'
  else
    ask_for_normal(lane, can_go)
  end
  return at and at <= now, can_go
end

-- The same for a lane of which only the name is known.
function M.plan_lane(lane) return M.plan(lane, config.limits(lane)) end

-- The same for all lanes that are keys of this table.
function M.plan_lanes(lanes)
  for lane in pairs(lanes) do M.plan_lane(lane) end
end

return M
