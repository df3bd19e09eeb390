-- A lane's pace: full, or a half, a quarter, an eighth, a sixteenth of it while Graph throttles it again and again.
--
-- Each 429 halves it, and each QUIET without one doubles it, counted from the end of the pause: that a paused lane met
-- none says nothing. The lane's hash holds `slowed` (how often it was halved), `slowed_at` (when that was last) and
-- `full_at` (when it is full again, if none follows). So time alone brings it back, and nothing has to be written.

local QUIET, SLOWEST = 5 * MINUTE, 4
local OF_A_SLOT = 60  -- mails a minute: about what a slot sends where no rate is set

local function halvings(self)
  local left = math.ceil((tonumber(self.full_at or 0) - now) / QUIET)
  return math.max(0, math.min(tonumber(self.slowed or 0), left))
end

-- When the pace is next doubled; never, where it is full.
local function faster_at(self)
  local halved = halvings(self)
  return halved > 0 and tonumber(self.full_at) - (halved - 1) * QUIET or math.huge
end

-- What was under way when the last one came tells of the same event.
local function slow_down(lane, job)
  local self = state_of('lane', lane)
  if tonumber(job.since or 0) <= tonumber(self.slowed_at or 0) then return end
  local halved = math.min(halvings(self) + 1, SLOWEST)
  local full_at = math.max(now, paused_until(self)) + halved * QUIET
  redis.call('HSET', state_key('lane', lane), 'slowed', halved, 'slowed_at', whole(now), 'full_at', whole(full_at))
end

-- The lane's settings at its present pace. A rate over more than QUIET is a budget: cut, it would stop the lane for
-- what left at full pace before. Where no other is set, a slower lane keeps to one all the same.
local function paced(cfg, self)
  local halved = halvings(self)
  if halved == 0 then return cfg end
  local function part(count) return math.ceil(count / 2 ^ halved) end
  local rates, is_rated = {}, false
  for i, rate in ipairs(cfg.rates) do
    local count, window = rate[1], rate[2]
    local is_pace = window <= QUIET
    rates[i], is_rated = {is_pace and part(count) or count, window}, is_rated or is_pace
  end
  if not is_rated then rates[#rates + 1] = {part(OF_A_SLOT * cfg.parallel), MINUTE} end
  return {app = cfg.app, daily = cfg.daily, parallel = part(cfg.parallel), rates = rates}
end

-- In the words of ledger.py and stats.py: what part of the full pace (4 is a quarter) and until when; '' where it is full.
local function pace_said(self)
  local halved = halvings(self)
  if halved == 0 then return '', '' end
  return whole(2 ^ halved), whole(tonumber(self.full_at))
end
