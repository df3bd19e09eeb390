-- A lane's pace: full, or a half, a quarter, an eighth of it while Graph throttles it again and again.
--
-- Each further 429 halves it, and each QUIET without one doubles it, counted from the end of the pause: that a paused
-- lane met none says nothing. The lane's hash holds `slowed` (how many 429s count), `slowed_at` (when that was last) and
-- `full_at` (when they are all forgotten, if none follows). So time alone brings it back, and nothing has to be written.

local faster_at, slow_down, paced, pace_said
do  -- the shared parts together may have 200 locals
  local QUIET, SLOWEST = MINUTE, 4

  -- How many 429s count still. The first is no habit: it halves nothing.
  local function level(self)
    if not self.slowed then return 0 end
    local left = math.ceil((tonumber(self.full_at or 0) - now) / QUIET)
    return math.max(0, math.min(tonumber(self.slowed), left))
  end

  local function halvings(self) return math.max(0, level(self) - 1) end

  -- When the pace is next doubled; never, where it is full.
  faster_at = function(self)
    if halvings(self) == 0 then return math.huge end
    return tonumber(self.full_at) - (level(self) - 1) * QUIET
  end

  -- What was under way when the last one came tells of the same event.
  slow_down = function(lane, job)
    local self = state_of('lane', lane)
    if tonumber(job.since or 0) <= tonumber(self.slowed_at or 0) then return end
    local count = math.min(level(self) + 1, SLOWEST)
    local full_at = math.max(now, paused_until(self)) + count * QUIET
    write_state('HSET', 'lane', lane, 'slowed', count, 'slowed_at', whole(now), 'full_at', whole(full_at))
  end

  -- The lane's settings at its present pace. A rate over more than QUIET is a budget: cut, it would stop the lane for
  -- what left at full pace before.
  paced = function(cfg, self)
    local halved = halvings(self)
    if halved == 0 then return cfg end
    local function part(count) return math.ceil(count / 2 ^ halved) end
    local rates = {}
    for i, rate in ipairs(cfg.rates) do
      local count, window = rate[1], rate[2]
      rates[i] = {window <= QUIET and part(count) or count, window}
    end
    return {app = cfg.app, daily = cfg.daily, parallel = part(cfg.parallel), rates = rates}
  end

  -- In the words of ledger.py and stats.py: what part of the full pace (4 is a quarter) and until when; '' where it is full.
  pace_said = function(self)
    local halved = halvings(self)
    if halved == 0 then return '', '' end
    return whole(2 ^ halved), whole(tonumber(self.full_at) - QUIET)
  end
end
