-- After new settings, what waits in a lane that is its sender's no more goes to the lane that is. (What stands behind
-- mail that stays is moved when its claim would have come.) The set `moving` has the lanes to look at.

local M = {}

local BATCH = constants.BATCH

local function sets_of(lane)
  local sets = {keys.later(lane)}
  for _, class in ipairs(constants.CLASSES) do sets[#sets + 1] = keys.ready(class, lane) end
  return sets
end

-- Returns how many jobs were moved, `most` at most. A lane that a person holds stays as it is.
function M.move_some(lane, most)
  if person_holds.held_until(states.read('lane', lane)) > call.now then return 0 end
  local moved, lanes = 0, {}
  for _, set in ipairs(sets_of(lane)) do
    for _, id in ipairs(redis.call('ZRANGE', set, 0, BATCH - 1)) do
      local job = record.read(id)
      local to = job and job.sender and config.lane_of_sender(job.sender)
      if not to or to == lane or moved >= most then break end
      record.write_once(id, transitions.change_lane, job, to)
      moved, lanes[to] = moved + 1, true
    end
  end
  dispatch.plan_lanes(lanes)
  if moved > 0 then dispatch.plan_lane(lane) end
  return moved
end

return M
