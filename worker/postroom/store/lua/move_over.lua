-- A part of tick.lua: after new rules, what waits in a lane that is its sender's no more goes to the one that is.
-- (What stands behind mail that stays is moved when its claim would have come.)

local function sets_of(lane)
  local sets = {of_lane('later', lane)}
  for _, class in ipairs(CLASSES) do sets[#sets + 1] = ready_key(class, lane) end
  return sets
end

-- How many were moved, of `most`. What a person holds stays.
local function move_some(lane, most)
  if stopped_until(state_of('lane', lane)) > now then return 0 end
  local moved, lanes = 0, {}
  for _, set in ipairs(sets_of(lane)) do
    for _, id in ipairs(redis.call('ZRANGE', set, 0, BATCH - 1)) do
      local job = record(id)
      local to = job and job.sender and lane_of_sender(job.sender)
      if not to or to == lane or moved >= most then break end
      changing(id, function() move_over(id, job, to) end)
      moved, lanes[to] = moved + 1, true
    end
  end
  for other in pairs(lanes) do plan(other, lane_settings(other)) end
  if moved > 0 then plan(lane, lane_settings(lane)) end
  return moved
end
