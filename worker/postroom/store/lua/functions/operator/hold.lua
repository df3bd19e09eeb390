-- Holds a lane, a batch or a part of one: {name, waiting, being sent, accepted, ended otherwise, where a batch's walk
-- goes on or ''}.
-- A batch is walked in steps, each with what the last one returned; only the first begins the hold. Nothing that is
-- being sent is touched.
-- Arguments: now, 'lane' or 'batch', name (of a lane: any address of its sender), by whom, reason, for how long (ms) or
--            '', where the walk goes on ('0' at first)

local function begin(scope, name, by, reason, length)
  local key = scope == 'lane' and keys.lane(name) or keys.held_batch(name)
  states.forget(scope == 'lane' and 'lane' or 'held', name)
  if redis.call('HSETNX', key, 'stopped_since', call.stamp) == 1 then
    events.log_hold('hold.started', scope, (person_holds.split(name)), {by = by})
    person_holds.count_part(name, 1)
  end
  redis.call('HSET', key, 'stopped_by', by, 'stopped_reason', reason)
  if length then
    redis.call('HSET', key, 'stopped_until', values.integer(call.now + length))
  else
    redis.call('HDEL', key, 'stopped_until')
  end
  redis.call('ZADD', keys.holds, length and call.now + length or '+inf', scope .. ':' .. name)
  if scope == 'batch' then redis.call('SREM', keys.releasing, name) end
end

local function counts_of_lane(lane)
  dispatch.plan_lane(lane)
  local sending = redis.call('ZCARD', keys.claims(lane))
  return {lane, scheduling.count_waiting(lane).all + redis.call('ZCARD', keys.later(lane)), sending, 0, 0, ''}
end

local function kind_of(job)
  if job.place == 'claim' then return 'sending' end
  if job.status == 'accepted' then return 'accepted' end
  return job.ended and 'ended' or 'waiting'
end

-- Somebody may have released it meanwhile, or its time may be over: then nothing is put aside any more.
local function walk(name, from)
  local batch, sender = person_holds.split(name)
  if not person_holds.is_held(name) then return {name, 0, 0, 0, 0, ''} end
  local counts, lanes = {waiting = 0, sending = 0, accepted = 0, ended = 0}, {}
  local most = constants.BATCH
  local entries = redis.call('ZRANGEBYSCORE', keys.batch(batch), '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
  for i = 1, #entries, 2 do
    local id, job = entries[i], record.read(entries[i])
    from = entries[i + 1]
    if job and (not sender or job.sender == sender) then
      local kind = kind_of(job)
      counts[kind] = counts[kind] + 1
      if job.place == 'ready' and not scheduling.is_check(job) then
        transitions.leave(id, job)
        transitions.to_aside(id, job)
        lanes[job.lane] = true
      end
    end
  end
  dispatch.plan_lanes(lanes)
  return {name, counts.waiting, counts.sending, counts.accepted, counts.ended, #entries == 2 * most and from or ''}
end

return function(arguments)
  local _, scope, name, by, reason, length, from = unpack(arguments, 1, 7)
  if scope == 'lane' then name = config.lane_of_sender(name) end
  if from == '0' then begin(scope, name, by, reason, tonumber(length)) end
  return scope == 'lane' and counts_of_lane(name) or walk(name, from)
end
