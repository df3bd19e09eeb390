-- The pace of a lane: full, or a half, a quarter, an eighth of it while Graph throttles the lane again and again.
--
-- Each further 429 halves it, and each QUIET without one doubles it, counted from the end of the pause: that a paused
-- lane met none says nothing. The hash lane:<lane> has `slowed` (how many 429s count), `slowed_at` (when the last one
-- came) and `full_at` (when all are forgotten, if none follows). So the pace comes back with time alone, and nothing is
-- written.

local M = {}

local integer = values.integer
local QUIET, SLOWEST = constants.MINUTE, 4

-- How many 429s count still.
local function level(lane_state)
  if not lane_state.slowed then return 0 end
  local left = math.ceil((tonumber(lane_state.full_at or 0) - call.now) / QUIET)
  return math.max(0, math.min(tonumber(lane_state.slowed), left))
end

-- The first 429 is no habit: it halves nothing.
local function halvings(lane_state) return math.max(0, level(lane_state) - 1) end

-- When the pace is next doubled; math.huge where it is full.
function M.doubles_at(lane_state)
  if halvings(lane_state) == 0 then return math.huge end
  return tonumber(lane_state.full_at) - (level(lane_state) - 1) * QUIET
end

-- After a 429 to this job. Requests that were under way when the last one came tell of the same event.
function M.slow_down(lane, job)
  local lane_state = states.read('lane', lane)
  if tonumber(job.since or 0) <= tonumber(lane_state.slowed_at or 0) then return end
  local count = math.min(level(lane_state) + 1, SLOWEST)
  local full_at = math.max(call.now, pauses.ends(lane_state)) + count * QUIET
  states.write('HSET', 'lane', lane, 'slowed', count, 'slowed_at', call.stamp, 'full_at', integer(full_at))
end

-- The limits of a lane at its present pace. A rate over more than QUIET is a budget: cut, it would stop the lane for
-- what has left at full pace before.
function M.paced(limits, lane_state)
  local halved = halvings(lane_state)
  if halved == 0 then return limits end
  local function part(count) return math.ceil(count / 2 ^ halved) end
  local rates = {}
  for i, rate in ipairs(limits.rates) do
    local count, window = rate[1], rate[2]
    rates[i] = {window <= QUIET and part(count) or count, window}
  end
  return {app = limits.app, daily = limits.daily, parallel = part(limits.parallel), rates = rates}
end

-- For people: what part of the full pace (4 is a quarter), and when it is full again; '' twice where it is full.
function M.describe(lane_state)
  local halved = halvings(lane_state)
  if halved == 0 then return '', '' end
  return integer(2 ^ halved), integer(tonumber(lane_state.full_at) - QUIET)
end

return M
