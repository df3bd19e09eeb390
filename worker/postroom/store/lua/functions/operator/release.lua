-- Releases a lane, a batch or a part of one: {name, 1 if a person held it, what is probed at once: 'lane', 'app' or
-- '', how many of a batch are still on their way}. A fault's hold stays until its probe succeeds.
-- Arguments: now, 'lane' or 'batch', name (of a lane: any address of its sender), 1 if it goes on with a batch

-- The job that was the probe before is the probe again: there may be no other mail.
local function put_probe_back(lane)
  local till = values.integer(call.now + fault_holds.LONGEST_PROBE)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys.later(lane), '-inf', till, 'LIMIT', 0, constants.BATCH)) do
    local job = record.read(id)
    if job and job.reason == 'held' then
      transitions.leave(id, job)
      record.update(id, job, {next_at = ''})
      transitions.to_ready(id, job)
    end
  end
end

-- Returns what is probed now.
local function probe(lane)
  local probed = ''
  for _, held in ipairs({{'app', config.limits(lane).app}, {'lane', lane}}) do
    local scope, name = held[1], held[2]
    local state = states.read(scope, name)
    if pauses.is_held(state) then
      fault_holds.probe_now(scope, name, state)
      probed = scope
    end
  end
  if probed ~= '' then put_probe_back(lane) end
  return probed
end

return function(arguments)
  local _, scope, name, goes_on = unpack(arguments, 1, 4)
  -- a lane that was held before it became another's alias is still held by its own name
  if scope == 'lane' and not states.read('lane', name).stopped_since then name = config.lane_of_sender(name) end
  local probed = scope == 'lane' and probe(name) or ''
  if goes_on == '1' then
    if person_holds.is_held(name) then return {name, 0, '', 0} end  -- somebody holds it again
    return {name, 0, '', releasing.put_back_some(name)}
  end
  local was_held = releasing.release(scope, name)
  return {name, was_held and 1 or 0, probed, scope == 'batch' and releasing.put_back_some(name) or 0}
end
