-- Holds a lane or a batch: {name, waiting, being sent, accepted, ended otherwise, where a batch's walk goes on or ''}.
-- A batch is walked in steps, each with what the last one said; only the first begins the hold. Nothing that is being
-- sent is touched.
-- ARGV: now, 'lane' or 'batch', name (of a lane: any address of its sender), by whom, reason, for how long (ms) or '',
--       where the walk goes on ('0' at first)
local scope, name, by, reason, length, from = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
if scope == 'lane' then name = lane_of_sender(name) end
local key = scope == 'lane' and state_key('lane', name) or held_batch_key(name)

local function stop()
  forget_state(scope == 'lane' and 'lane' or 'held', name)
  if redis.call('HSETNX', key, 'stopped_since', whole(now)) == 1 then tell_of_hold('hold.started', scope, name, {by = by}) end
  redis.call('HSET', key, 'stopped_by', by, 'stopped_reason', reason)
  if length then
    redis.call('HSET', key, 'stopped_until', whole(now + length))
  else
    redis.call('HDEL', key, 'stopped_until')
  end
  redis.call('ZADD', P .. 'holds', length and now + length or '+inf', scope .. ':' .. name)
  if scope == 'batch' then redis.call('SREM', P .. 'releasing', name) end
end

local function lane_counts()
  plan(name, lane_settings(name))
  local sending = redis.call('ZCARD', of_lane('claims', name))
  return {name, waiting(name).all + redis.call('ZCARD', of_lane('later', name)), sending, 0, 0, ''}
end

local function count(job)
  if job.place == 'claim' then return 'sending' end
  if job.status == 'accepted' then return 'accepted' end
  return job.ended and 'ended' or 'waiting'
end

-- Somebody may have released it meanwhile, or its time may be over: then nothing is put aside any more.
local function walk()
  if not stands_aside(name) then return {name, 0, 0, 0, 0, ''} end
  local counts, lanes = {waiting = 0, sending = 0, accepted = 0, ended = 0}, {}
  local found = redis.call('ZRANGEBYSCORE', P .. 'batch:' .. name, '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', 0, BATCH)
  for i = 1, #found, 2 do
    local id, job = found[i], record(found[i])
    from = found[i + 1]
    if job then
      counts[count(job)] = counts[count(job)] + 1
      if job.place == 'ready' and not is_check(job) then
        leave(id, job)
        to_aside(id, job)
        lanes[job.lane] = true
      end
    end
  end
  for lane in pairs(lanes) do plan(lane, lane_settings(lane)) end
  return {name, counts.waiting, counts.sending, counts.accepted, counts.ended, #found == 2 * BATCH and from or ''}
end

if from == '0' then stop() end
return scope == 'lane' and lane_counts() or walk()
