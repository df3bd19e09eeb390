-- Releases a lane or a batch: {name, 1 if a person held it, what is probed at once: 'lane', 'app' or '', how many of a
-- batch are still on their way}. A fault's hold stays until its probe succeeds.
-- ARGV: now, 'lane' or 'batch', name (of a lane: any address of its sender), 1 if it goes on with a batch
local scope, name, goes_on = ARGV[2], ARGV[3], ARGV[4] == '1'
-- a lane that was held before it became another's alias is still held by its own name
if scope == 'lane' and not state_of('lane', name).stopped_since then name = lane_of_sender(name) end
local app = lane_settings(name).app
local probed = ''

-- What was the probe before is one again now: there may be no other mail.
local function back_to_ready()
  local later = of_lane('later', name)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', whole(now + LONGEST_PROBE), 'LIMIT', 0, BATCH)) do
    local job = record(id)
    if job and job.reason == 'held' then
      leave(id, job)
      update(id, job, {next_at = ''})
      to_ready(id, job)
    end
  end
end

if scope == 'lane' then
  for _, of in ipairs({{'app', app}, {'lane', name}}) do
    local state = state_of(unpack(of))
    if is_held(state) then
      probe_now(of[1], of[2], state)
      probed = of[1]
    end
  end
  if probed ~= '' then back_to_ready() end
end
if goes_on then return {name, 0, '', stands_aside(name) and 0 or let_go(name)} end  -- somebody may hold it again
local was = release(scope, name)
return {name, was and 1 or 0, probed, scope == 'batch' and let_go(name) or 0}
