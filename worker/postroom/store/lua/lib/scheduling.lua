-- Which job of a lane goes next, and when.

local M = {}

local CLASSES, BATCH = constants.CLASSES, constants.BATCH

-- A job in doubt is looked up before anything else leaves: it needs a slot, but no rate.
function M.is_check(job) return (job.in_doubt and not job.resend) or job.tidy end

function M.ready_class(job) return M.is_check(job) and 'check' or job.resend and 'again' or job.priority end

-- High before normal before low, but each tenth claim is a low one's.
local function next_class(counts, turn, resends_wait)
  if counts.low > 0 and turn % 10 == 9 and counts.check == 0 then return 'low' end
  if resends_wait and counts.all > counts.check + counts.again and counts.check == 0 then counts.again = 0 end
  for _, class in ipairs(CLASSES) do
    if counts[class] > 0 then return class end
  end
end

-- How many jobs are ready in each class, and `later`: whether others may be due. Most lanes have jobs of one class or
-- none, so the first command asks how many classes have any.
local USUAL = {'normal', 'high', 'low', 'again', 'check'}

function M.count_waiting(lane)
  local counts, ready = {all = 0, check = 0, high = 0, again = 0, normal = 0, low = 0}, {}
  for i = 1, #USUAL do ready[i] = keys.ready(USUAL[i], lane) end
  local later = keys.later(lane)
  local sets = redis.call('EXISTS', later, unpack(ready))
  for i = 1, #USUAL do
    if i == 2 and sets > 0 then
      counts.later = redis.call('EXISTS', later) == 1
      if counts.later then sets = sets - 1 end
    end
    if sets == 0 then break end
    local class = USUAL[i]
    counts[class] = redis.call('ZCARD', ready[i])
    counts.all = counts.all + counts[class]
    if counts[class] > 0 then sets = sets - 1 end
  end
  call.no_high[lane] = counts.high == 0
  return counts
end

function M.first_later(lane)
  return tonumber(redis.call('ZRANGE', keys.later(lane), 0, 0, 'WITHSCORES')[2])
end

local function move_due_job(id, lane, later)
  local fields = redis.call('HMGET', keys.job(id),
    'priority', 'seq', 'in_doubt', 'resend', 'tidy', 'place', 'batch', 'sender')
  local priority, seq, in_doubt, resend, tidy, place, batch, sender = unpack(fields, 1, 8)
  redis.call('ZREM', later, id)
  if not (record.PRIORITIES[priority] and tonumber(seq) and record.PLACES[place]) then
    record.read(id)  -- makes it a dead letter
    return
  end
  local class = M.ready_class({priority = priority, in_doubt = in_doubt, resend = resend, tidy = tidy})
  local held = class ~= 'check' and person_holds.name_for({batch = batch or nil, sender = sender or nil})
  redis.call('ZADD', held and keys.aside(held) or keys.ready(class, lane), seq, id)
  redis.call('HSET', keys.job(id), 'place', held and 'aside' or 'ready')
end

-- Moves jobs that are due to their ready sets, a batch at most. Returns when the first of the rest is due, and whether
-- any job was due.
function M.due_to_ready(lane)
  local now, first, later = call.now, M.first_later(lane), keys.later(lane)
  if not first or first > now then return first end
  call.no_high[lane] = nil
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', values.integer(now), 'LIMIT', 0, BATCH)) do
    move_due_job(id, lane, later)
  end
  return M.first_later(lane), true
end

function M.put_ready(class, lane, score, id)
  if class == 'high' then call.no_high[lane] = nil end
  redis.call('ZADD', keys.ready(class, lane), score, id)
end

-- When to look at a lane whose claims take all slots. Many lanes may wait in the same way, as where Graph has stopped
-- to answer: they must not all be looked at in the same moment.
local LOOKS_SPREAD = 2000  -- ms

local function when_claims_end(lane)
  return call.now + constants.NO_CLAIM_LOOK - tonumber(string.sub(redis.sha1hex(lane), 1, 6), 16) % LOOKS_SPREAD
end

-- The first job keeps its place until `at`, or until one is due that may go before it: a look-up needs no rate.
local function before_later(lane, at) return math.min(at, math.max(M.first_later(lane) or at, call.now + 1)) end

-- Until when the limits keep the first job back; how many slots and how many requests are left; and whether the
-- recipients of any one job more have room.
local function limited_until(lane, limits, lane_state, first, is_checked)
  local now = call.now
  local at = now
  limits = pace.paced(limits, lane_state)
  local most = (pauses.in_trouble(lane_state) or slots.speed_of(lane_state) == 'unknown') and 1 or limits.parallel
  local claims = redis.call('ZCARD', keys.claims(lane))
  local free = most - claims
  if is_checked then return free > 0 and now or when_claims_end(lane), free, free end
  local left, rate_ready = rate_limits.left(lane, limits)
  if left <= 0 and rate_ready > now then at = before_later(lane, math.min(rate_ready, pace.doubles_at(lane_state)))
  elseif left <= 0 or free <= 0 then at = when_claims_end(lane)
  end
  local fits, room = recipient_limits.ready(lane, limits, first, claims)
  if fits > now then at = math.max(at, before_later(lane, fits)) end
  return at, free, left, room
end

-- When the app and the slots of all workers let the lane go on; registers the lane with what will wake it.
local function waits_for_others(lane, app, lane_state, app_state)
  local now, closed = call.now, pauses.closed_until(app_state)
  if closed > now or (pauses.in_trouble(app_state) and pauses.has_probe(app_state)) then
    pauses.wait_for_app(app, lane)
    if pauses.is_held(app_state) then fault_holds.watch_patience(lane, app_state) end
    return closed > now and closed or now + constants.NO_CLAIM_LOOK
  end
  if slots.is_none_free(lane_state) then
    slots.wait(lane)
    return now + constants.NO_CLAIM_LOOK
  end
  return now
end

-- When the lane can next give a claim (nil where nothing waits), how many at once, the job that is next, and what was
-- seen, for `outlook_after_claim`.
function M.outlook(lane, limits)
  local now, counts = call.now, M.count_waiting(lane)
  local later, any_was_due
  if counts.later then later, any_was_due = M.due_to_ready(lane) end
  if any_was_due then counts = M.count_waiting(lane) end
  if counts.all == 0 then return later, 0 end
  local lane_state, app_state = states.read('lane', lane), states.read('app', limits.app)
  local resends_at = counts.again > 0 and failures.resends_wait_until(lane_state, app_state) or 0
  if resends_at > now and counts.all == counts.again then return math.min(resends_at, later or resends_at), 0 end
  local class = next_class(counts, tonumber(lane_state.turn or 0), resends_at > 0)
  local first = redis.call('ZRANGE', keys.ready(class, lane), 0, 0)[1]
  local at, free, left, room = limited_until(lane, limits, lane_state, first, class == 'check')
  at = math.max(at, pauses.closed_until(lane_state))
  if at <= now then at = waits_for_others(lane, limits.app, lane_state, app_state) end
  local in_trouble = pauses.in_trouble(app_state)
  local is_steady = slots.speed_of(lane_state) == 'quick' and not pauses.in_trouble(lane_state) and not in_trouble
  local can_go = math.min(counts.all, free, left, in_trouble and 1 or math.huge)
  return at, can_go, first, {
    all = counts.all, low = counts.low, later = later, free = free, left = left, room = room, is_steady = is_steady,
    has_resends = counts.again > 0,
  }
end

-- The outlook after a claim was given out of it. Where only the slots and the number of waiting jobs have changed, it
-- is calculated: to look again for each mail would be a quarter of Redis' work.
function M.outlook_after_claim(lane, limits, seen)
  if seen.all == 1 then return seen.later, 0 end
  if not seen.room or seen.left <= 1 or seen.has_resends then return M.outlook(lane, limits) end
  if seen.free <= 1 then return when_claims_end(lane), 0 end
  if not seen.is_steady then return M.outlook(lane, limits) end
  return call.now, math.min(seen.all, seen.free, seen.left) - 1
end

return M
