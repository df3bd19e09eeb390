-- What time brings, in bounded steps: {now, next wake-up or '', how much was done, {apps to probe, each with the end
-- of its lease}, {what a log is to say, as JSON}}.
-- ARGV: now, worker, its hands, lease (ms)
local WORKER_LOST_AFTER, LOST_CLAIMS = 15000, 5
local PASS = 1000
local STAGED_FOR = 3600000
local SWEPT = 1000  -- entries of indexes
local SLOW_ONES = 2000  -- as many hands as four workers have
local PROBE_LEASE = 30000
local worker, hands, lease = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local done = 0

local function due(set, till, most)
  return redis.call('ZRANGEBYSCORE', P .. set, '-inf', whole(till), 'LIMIT', 0, most or BATCH)
end

-- Each job is read when its turn has come: what was done for the one before may have moved it. An entry without a
-- record (somebody deleted that by hand) must not stop the clock. Says how many there were.
local function each_due(set, till, handle)
  local ids = due(set, till)
  for _, id in ipairs(ids) do
    local job = record(id)
    if job then handle(id, job) elseif redis.call('EXISTS', job_key(id)) == 0 then redis.call('ZREM', P .. set, id) end
  end
  return #ids
end

local function count_hands()
  redis.call('HSET', P .. 'workers', worker, whole(now) .. ' ' .. hands)
  local sum = 0
  for name, said in pairs(hash(P .. 'workers')) do
    local seen, n = string.match(said, '(%S+) (%S+)')
    if tonumber(seen) < now - WORKER_LOST_AFTER then redis.call('HDEL', P .. 'workers', name) else sum = sum + tonumber(n) end
  end
  redis.call('SET', P .. 'hands', sum)
  counted[P .. 'hands'] = sum
end

-- A worker died: before the mark nothing was sent; after it nobody knows.

local function put_back(id, job)
  local lost = tonumber(job.lost or 0) + 1
  update(id, job, {lost = lost})
  if lost >= LOST_CLAIMS then return finish(id, job, 'dead', job.in_doubt and 'unknown' or 'poison') end
  to_later(id, job, now + 1000 * 2 ^ lost)
  set_status(id, job, 'deferred', job.in_doubt and 'unknown' or 'backoff')
end

local function put_in_doubt(id, job, token)
  end_attempt(id, job, '{"outcome":"unknown","reason":"worker_lost"}')
  doubt(id, job, token)
  redis.call('ZADD', of_lane('marks', job.lane), 'XX', now, job.client_request_id)
  update(id, job, {minute = '', http_status = '', graph_code = '', request_id = ''})
  to_later(id, job, now + tonumber(setting('first_look') or 10000))
  set_status(id, job, 'deferred', 'unknown')
end

local function take_back(id, job)
  if job.place ~= 'claim' then return redis.call('ZREM', P .. 'leases', id) end
  local sending, token = job.phase == 'sending', job.token
  job.slow_hand = '1'  -- a worker of 0.1.0 does not say whether it is one
  leave(id, job)
  if job.tidy then to_later(id, job, now + MINUTE)
  elseif job.left then finish_as_left(id, job)
  elseif sending then put_in_doubt(id, job, token)
  elseif may_expire(job) then finish(id, job, 'expired', 'expired')
  else put_back(id, job)
  end
  plan(job.lane, lane_settings(job.lane))
end

-- After a gap (a jump of Redis' clock, or nobody ticked) every lease that ended meanwhile starts anew.
local function renew_ended()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', whole(now))) do
    local job = record(id)
    if job then renew(id, job, lease) end
  end
end

-- Two passes, a second apart: what had ended by the last one and was not settled since is taken back.
local function reap()
  local last = tonumber(redis.call('GET', P .. 'passed') or now)
  if now - last > lease / 2 then
    renew_ended()
  elseif now - last >= PASS then
    local lost = each_due('leases', last, take_back)
    done = done + lost
    if lost == BATCH then return end
  elseif now > last then
    return
  end
  redis.call('SET', P .. 'passed', whole(now))
end

-- A lane whose request has been out for long is slow from now on, not only when the answer comes. And as that request
-- may reach Graph as late as now, its mark is as young.
local function notice_slow()
  for _, id in ipairs(due('leases', now + lease - SLOW, SLOW_ONES)) do
    redis.call('SREM', P .. 'hands:unknown', id)
    local lane = redis.call('SADD', P .. 'hands:slow', id) == 1 and redis.call('HGET', job_key(id), 'lane')
    if lane then
      redis.call('HSET', job_key(id), 'slow_hand', 1)
      write_state('HSET', 'lane', lane, 'slow', '1')
    end
    local sent = redis.call('HMGET', job_key(id), 'lane', 'phase', 'client_request_id')
    if sent[1] and sent[2] == 'sending' and sent[3] then redis.call('ZADD', of_lane('marks', sent[1]), 'XX', now, sent[3]) end
  end
end

local function end_expired()
  done = done + each_due('expiring', now, function(id, job)
    redis.call('ZREM', P .. 'expiring', id)  -- a job in a claim or in doubt is looked at again when that ends
    if job.place ~= 'claim' and job.place ~= 'ended' and may_expire(job) then
      expire(id, job)
      plan(job.lane, lane_settings(job.lane))
    end
  end)
end

local function forget(id, job)
  if job.key and redis.call('HGET', P .. 'keys', job.key) == id then redis.call('HDEL', P .. 'keys', job.key) end
  if job.batch then redis.call('ZREM', P .. 'batch:' .. job.batch, id) end
  for token in string.gmatch(job.to or '', '%S+') do redis.call('ZREM', P .. 'to:' .. token, id) end
  leave_indexes(id, job.status)
  redis.call('ZREM', P .. 'doubts', id)
  redis.call('ZREM', P .. 'results', id)
  if setting('results') == 'redis' then
    for _, shown in ipairs(redis.call('SMEMBERS', mirrors_key(id))) do redis.call('DEL', 'celery-task-meta-' .. shown) end
    redis.call('DEL', 'celery-task-meta-' .. id)
  end
  drop_content(id, job)
  redis.call('DEL', job_key(id), attempts_key(id), mirrors_key(id))
end

local function sweep()
  local left = SWEPT
  for status, kept in pairs({accepted = 'accepted', cancelled = 'accepted', dead = 'dead', expired = 'dead'}) do
    local retention = tonumber(setting('retention_' .. kept))
    if retention then
      each_due('status:' .. status, now - retention, function(id, job)
        if left <= 0 then return end
        leave(id, job)
        left = left - tonumber(job.recipients) - 1
        done = done + 1
        forget(id, job)
      end)
    end
  end
end

-- What a producer has staged and not taken in: it died, or gave up.
local function sweep_staged()
  for _, name in ipairs(due('staged', now - STAGED_FOR)) do
    drop_files(name)
    done = done + 1
  end
end

-- Holds of people whose time is over, and batches that are on their way back from one.
local function end_holds()
  for _, held in ipairs(due('holds', now)) do
    local scope, name = string.match(held, '^(%l+):(.*)$')
    release(scope, name)
    done = done + 1
  end
  for _, batch in ipairs(redis.call('SRANDMEMBER', P .. 'releasing', 10)) do
    let_go(batch)
    done = done + 1
  end
end

local function lose_patience()
  local left = PATIENCE_STEP
  for _, lane in ipairs(due('patience', now)) do
    if left <= 0 then break end
    local looked_at, over = end_held_too_long(lane)
    left = left - math.max(looked_at, 1)
    if not over then done = done + 1 end
  end
end

-- One worker asks for a token; if it says nothing, the next one does after a while.
local function lend_probes()
  local lent = {}
  for _, app in ipairs(due('probes', now)) do
    redis.call('ZADD', P .. 'probes', now + PROBE_LEASE, app)
    lent[#lent + 1] = {app, whole(now + PROBE_LEASE)}
  end
  return lent
end

local function follow_rules()
  local left = BATCH
  for _, lane in ipairs(redis.call('ZRANGE', P .. 'moving', 0, BATCH - 1)) do
    if left <= 0 then break end
    local moved = move_some(lane, left)
    if moved == 0 then redis.call('ZREM', P .. 'moving', lane) end
    left, done = left - moved, done + moved
  end
end

local function wake()
  local lanes = due('lanes', now)
  for _, lane in ipairs(lanes) do plan(lane, lane_settings(lane)) end
  if #lanes == BATCH then done = done + BATCH end
  hand_out(BATCH, {})
end

count_hands()
reap()
notice_slow()
end_expired()
end_holds()
lose_patience()
sweep()
sweep_staged()
follow_rules()
wake()
local first = redis.call('ZRANGE', P .. 'lanes', 0, 0, 'WITHSCORES')
local events = redis.call('LPOP', P .. 'events', BATCH) or {}
return {whole(now), first[2] or '', done + #events, lend_probes(), events}
