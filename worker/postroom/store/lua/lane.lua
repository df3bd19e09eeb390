-- A lane: which of its jobs goes next, and when.

local SLOW = 2000        -- an answer that takes longer makes its lane a slow one
local LOOK_AGAIN = 5000  -- for lanes that others will wake: only in case they do not
local CLASSES = {'check', 'high', 'again', 'normal', 'low'}

-- A mail in doubt is looked up before anything else leaves: what it needs is a slot, no rate.
local function is_check(job) return (job.in_doubt and not job.resend) or job.tidy end
local function ready_class(job) return is_check(job) and 'check' or job.resend and 'again' or job.priority end

local function ready_key(class, lane) return P .. 'ready:' .. class .. ':' .. lane end

-- High before normal before low; but each tenth claim is a low one's.
local function next_class(counts, turn, spared)
  if counts.low > 0 and turn % 10 == 9 and counts.check == 0 then return 'low' end
  if spared and counts.all > counts.check + counts.again and counts.check == 0 then counts.again = 0 end
  for _, class in ipairs(CLASSES) do
    if counts[class] > 0 then return class end
  end
end

-- How many jobs are ready in each class, and `later` where others may be due. Most lanes have those of one class or none,
-- so it is asked first how many have any.
local USUAL = {'normal', 'high', 'low', 'again', 'check'}

local function waiting(lane)
  local counts, keys = {all = 0, check = 0, high = 0, again = 0, normal = 0, low = 0}, {}
  for i = 1, #USUAL do keys[i] = ready_key(USUAL[i], lane) end
  local later = of_lane('later', lane)
  local sets = redis.call('EXISTS', later, unpack(keys))
  for i = 1, #USUAL do
    if i == 2 and sets > 0 then
      counts.later = redis.call('EXISTS', later) == 1
      if counts.later then sets = sets - 1 end
    end
    if sets == 0 then break end
    local class = USUAL[i]
    counts[class] = redis.call('ZCARD', keys[i])
    counts.all = counts.all + counts[class]
    if counts[class] > 0 then sets = sets - 1 end
  end
  no_high[lane] = counts.high == 0
  return counts
end

local function first_later(lane)
  return tonumber(redis.call('ZRANGE', of_lane('later', lane), 0, 0, 'WITHSCORES')[2])
end

-- Says when the first of those that stay is due, and whether any was.
local function due_to_ready(lane)
  local first, later = first_later(lane), of_lane('later', lane)
  if not first or first > now then return first end
  no_high[lane] = nil
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', whole(now), 'LIMIT', 0, BATCH)) do
    local found = redis.call('HMGET', job_key(id), 'priority', 'seq', 'in_doubt', 'resend', 'tidy', 'batch', 'place')
    redis.call('ZREM', later, id)
    if PRIORITIES[found[1]] and tonumber(found[2]) and PLACES[found[7]] then
      local class = ready_class({priority = found[1], in_doubt = found[3], resend = found[4], tidy = found[5]})
      local aside = class ~= 'check' and stands_aside(found[6])
      redis.call('ZADD', aside and aside_key(found[6]) or ready_key(class, lane), found[2], id)
      redis.call('HSET', job_key(id), 'place', aside and 'aside' or 'ready')
    else
      record(id)
    end
  end
  return first_later(lane), true
end

-- Hands: lanes whose answers are slow hold at most half of them together, and a quarter is kept for lanes that are
-- known to be quick. A lane that is not known yet (`unknown`) shows its speed with one claim first. `hands:slow` and
-- `hands:unknown` are the sets of their claims, `hands:waiting` the lanes that wait for one of them to end.
local function speed_of(self) return self.slow == '1' and 'slow' or self.slow == '0' and 'quick' or 'unknown' end

-- How many there are, by the last tick; nil before the first one.
local function hands()
  local key = P .. 'hands'
  if counted[key] == nil then counted[key] = tonumber(redis.call('GET', key)) or false end
  return counted[key] or nil
end

local function no_hand_for(self)
  local speed = speed_of(self)
  if speed == 'quick' then return false end
  local all = hands() or 8
  local slow, unknown = redis.call('SCARD', P .. 'hands:slow'), redis.call('SCARD', P .. 'hands:unknown')
  if speed == 'slow' then return slow >= math.max(1, math.floor(all / 2)) end
  return slow + unknown >= math.max(1, all - math.max(1, math.floor(all / 4)))
end

local outlook, outlook_after
do  -- the shared parts together may have 200 locals
  local SPREAD = 2000

  -- When to look at a lane whose claims are in the way. Many may wait alike, as where Graph has stopped to answer: they
  -- must not all be looked at in the same moment.
  local function when_claims_end(lane)
    return now + LOOK_AGAIN - tonumber(string.sub(redis.sha1hex(lane), 1, 6), 16) % SPREAD
  end

  -- The head keeps its place until then, or until one that may go before it is due: a look-up needs no rate.
  local function before_later(lane, at) return math.min(at, math.max(first_later(lane) or at, now + 1)) end

  -- Until when the limits keep the head back; for how many there are slots, and for how many there is rate; and whether
  -- there is room for all recipients of one claim more.
  local function limited_until(lane, cfg, self, head, is_checked)
    local at = now
    cfg = paced(cfg, self)
    local most = (in_trouble(self) or speed_of(self) == 'unknown') and 1 or cfg.parallel
    local claims = redis.call('ZCARD', of_lane('claims', lane))
    local free = most - claims
    if is_checked then return free > 0 and now or when_claims_end(lane), free, free end
    local left, rate_ready = rate_left(lane, cfg)
    if left <= 0 and rate_ready > now then at = before_later(lane, math.min(rate_ready, faster_at(self)))
    elseif left <= 0 or free <= 0 then at = when_claims_end(lane)
    end
    local fits, room = recipients_ready(lane, cfg, head, claims)
    if fits > now then at = math.max(at, before_later(lane, fits)) end
    return at, free, left, room
  end

  -- Until when others keep the lane back. It is told to those who will wake it.
  local function waits_for_others(lane, cfg, self, app)
    local closed = closed_until(app)
    if closed > now or (in_trouble(app) and is_probed(app)) then
      wait_for_app(cfg.app, lane)
      if is_held(app) then watch_patience(lane, app) end
      return closed > now and closed or now + LOOK_AGAIN
    end
    if no_hand_for(self) then
      redis.call('ZADD', P .. 'hands:waiting', 'NX', now, lane)
      return now + LOOK_AGAIN
    end
    return now
  end

  -- When the lane can next give a claim (nil where nothing waits), how many at once, the job that is next, and what was
  -- seen, for `outlook_after`.
  outlook = function(lane, cfg)
    local counts = waiting(lane)
    local later, any_was_due
    if counts.later then later, any_was_due = due_to_ready(lane) end
    if any_was_due then counts = waiting(lane) end
    if counts.all == 0 then return later, 0 end
    local self, app = state_of('lane', lane), state_of('app', cfg.app)
    local spared = counts.again > 0 and spared_until(self, app) or 0
    if spared > now and counts.all == counts.again then return math.min(spared, later or spared), 0 end
    local class = next_class(counts, tonumber(self.turn or 0), spared > 0)
    local head = redis.call('ZRANGE', ready_key(class, lane), 0, 0)[1]
    local at, free, left, room = limited_until(lane, cfg, self, head, class == 'check')
    at = math.max(at, closed_until(self))
    if at <= now then at = waits_for_others(lane, cfg, self, app) end
    local even = speed_of(self) == 'quick' and not in_trouble(self) and not in_trouble(app)
    local can_go = math.min(counts.all, free, left, in_trouble(app) and 1 or math.huge)
    return at, can_go, head, {
      all = counts.all, low = counts.low, later = later, free = free, left = left, room = room, even = even,
      again = counts.again > 0,
    }
  end

  -- The same once more, after a claim was given out of it. Where only the slots and what waits have changed, it is
  -- reckoned: to look again at each mail is a quarter of Redis' work.
  outlook_after = function(lane, cfg, seen)
    if seen.all == 1 then return seen.later, 0 end
    if not seen.room or seen.left <= 1 or seen.again then return outlook(lane, cfg) end
    if seen.free <= 1 then return when_claims_end(lane), 0 end
    if not seen.even then return outlook(lane, cfg) end
    return now, math.min(seen.all, seen.free, seen.left) - 1
  end
end
