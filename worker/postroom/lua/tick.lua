-- What time brings, in bounded steps: {now, next wake-up or '', how much was done, ids whose results are due…}.
-- ARGV: now, worker, its hands, lease (ms)
local worker, hands, lease = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local done = 0

local function count_hands()
  redis.call('HSET', P .. 'workers', worker, now .. ' ' .. hands)
  local sum, all = 0, redis.call('HGETALL', P .. 'workers')
  for i = 1, #all, 2 do
    local seen, n = string.match(all[i + 1], '(%S+) (%S+)')
    if tonumber(seen) < now - 15000 then redis.call('HDEL', P .. 'workers', all[i]) else sum = sum + tonumber(n) end
  end
  redis.call('SET', P .. 'hands', sum)
end

-- The worker died: before the mark nothing was sent; after it nobody knows.
local function take_back(id)
  local job = record(id)
  if not job or job.place ~= 'claim' then
    redis.call('ZREM', P .. 'leases', id)
    redis.call('ZREM', P .. 'suspects', id)
    return
  end
  local sending, token = job.phase == 'sending', job.token
  leave(id, job)
  local lost = tonumber(job.lost or 0) + (sending and 0 or 1)
  local fields = {phase = '', minute = '', lost = lost}
  if sending then
    doubt(job, fields, token)
    local open = cjson.decode(redis.call('LINDEX', attempts_key(id), -1))
    open.outcome, open.reason = 'unknown', 'worker_lost'
    redis.call('LSET', attempts_key(id), -1, cjson.encode(open))
  end
  update(id, job, fields)
  if lost >= 5 then
    finish(id, job, 'dead', 'poison')
  elseif may_expire(job) then
    finish(id, job, 'expired', 'expired')
  else
    to_later(id, job, now + (sending and 10000 or 1000 * 2 ^ lost))
    set_status(id, job, 'deferred', sending and 'unknown' or 'backoff')
  end
  plan(job.lane, lane_settings(job.lane))
end

-- Two passes, a second apart. After a gap (a jump of Redis' clock, or nobody ticked) every lease starts anew.
local function reap()
  local gap = now - tonumber(redis.call('GET', P .. 'ticked') or now) > lease / 2
  redis.call('SET', P .. 'ticked', now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', now, 'LIMIT', 0, BATCH)) do
    local seen = tonumber(redis.call('ZSCORE', P .. 'suspects', id) or now)
    if gap then
      redis.call('ZADD', P .. 'leases', now + lease, id)
      redis.call('ZREM', P .. 'suspects', id)
    elseif now - seen >= 1000 then
      take_back(id)
      done = done + 1
    else
      redis.call('ZADD', P .. 'suspects', 'NX', now, id)
    end
  end
end

-- A lane whose request has been out for long is slow from now on, not only when the answer comes.
local function notice_slow()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', now + lease - SLOW, 'LIMIT', 0, BATCH)) do
    local job = redis.call('HMGET', job_key(id), 'lane', 'token')
    if job[1] then
      redis.call('HSET', of_lane('lane', job[1]), 'slow', '1')
      redis.call('ZADD', P .. 'slow', redis.call('ZSCORE', P .. 'leases', id), job[2])
    end
  end
  redis.call('ZREMRANGEBYSCORE', P .. 'slow', '-inf', now - lease)
end

local function end_expired()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'expiring', '-inf', now, 'LIMIT', 0, BATCH)) do
    local job = record(id)
    redis.call('ZREM', P .. 'expiring', id)  -- a job in a claim or in doubt is looked at again when that ends
    if job and (job.place == 'ready' or job.place == 'later') and may_expire(job) then
      expire(id, job)
      plan(job.lane, lane_settings(job.lane))
      done = done + 1
    end
  end
end

local function forget(id)
  local job = record(id)
  if job then
    if job.key and redis.call('HGET', P .. 'keys', job.key) == id then redis.call('HDEL', P .. 'keys', job.key) end
    if job.batch then redis.call('ZREM', P .. 'batch:' .. job.batch, id) end
    for token in string.gmatch(job.to or '', '%S+') do redis.call('ZREM', P .. 'to:' .. token, id) end
    redis.call('ZREM', P .. 'status:' .. job.status, id)
  end
  if setting('results') == 'redis' then
    redis.call('DEL', 'celery-task-meta-' .. id)
    for _, shown in ipairs(redis.call('SMEMBERS', P .. 'mirrors:' .. id)) do redis.call('DEL', 'celery-task-meta-' .. shown) end
  end
  redis.call('DEL', job_key(id), mail_key(id), attempts_key(id), P .. 'mirrors:' .. id)
end

local function sweep()
  for status, kept in pairs({accepted = 'accepted', cancelled = 'accepted', dead = 'dead', expired = 'dead'}) do
    local retention = tonumber(setting('retention_' .. kept))
    if retention then
      local old = redis.call('ZRANGEBYSCORE', P .. 'status:' .. status, '-inf', now - retention, 'LIMIT', 0, BATCH)
      for _, id in ipairs(old) do
        forget(id)
        redis.call('ZREM', P .. 'status:' .. status, id)
      end
      done = done + #old
    end
  end
end

local function wake()
  if queue_is_long() then return end
  local due = redis.call('ZRANGEBYSCORE', P .. 'lanes', '-inf', now, 'LIMIT', 0, BATCH)
  for _, lane in ipairs(due) do plan(lane, lane_settings(lane)) end
  done = done + (#due == BATCH and BATCH or 0)
end

-- Results of jobs for a backend that is not this Redis: lent to this worker for half a minute.
local function results_due()
  local ids = redis.call('ZRANGEBYSCORE', P .. 'results', '-inf', now, 'LIMIT', 0, BATCH)
  for _, id in ipairs(ids) do redis.call('ZADD', P .. 'results', now + 30000, id) end
  return ids
end

count_hands()
reap()
notice_slow()
end_expired()
sweep()
wake()
local first = redis.call('ZRANGE', P .. 'lanes', 0, 0, 'WITHSCORES')
return {string.format('%d', now), first[2] or '', done, results_due()}
