-- What every script shares: names of keys, the clock, lanes, results. Each script is this file and its own.
--
-- A job is at any time in exactly one place, and its record's `place` names it:
--   ready    in ready:<priority>:<lane>     score: order of arrival
--   later    in later:<lane>                score: when it is due
--   claim    in claims:<lane> and leases    score: when the lease ends; also in unmarked:<lane> until it is marked
--   ended    in status:<status> only
-- Every script may be run again with the same arguments (a lost reply is asked for again) and changes nothing then.

local P = '{postroom}:'
local DAY, MINUTE = 86400000, 60000
local MARGIN = 1000          -- a request may reach Graph a little later than its mark
local ROUND_LOST_AFTER = 30000
local SLOW = 2000            -- an answer that takes longer makes its lane a slow one
local LOOK_AGAIN = 5000      -- for lanes that others will wake: only in case they do not
local BATCH = 100
local CLASSES = {'high', 'normal', 'low'}

local function server_time()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
local now = tonumber(ARGV[1]) or server_time()  -- milliseconds; an argument only in tests

local function job_key(id) return P .. 'job:' .. id end
local function mail_key(id) return P .. 'mail:' .. id end
local function attempts_key(id) return P .. 'attempts:' .. id end
local function of_lane(what, lane) return P .. what .. ':' .. lane end

local function record(id)
  local flat, found = redis.call('HGETALL', job_key(id)), {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return next(found) and found or nil
end

local function update(id, job, fields)
  local args = {}
  for name, value in pairs(fields) do
    job[name] = tostring(value)
    args[#args + 1] = name
    args[#args + 1] = tostring(value)
  end
  redis.call('HSET', job_key(id), unpack(args))
end

-- What the workers published of their settings: `lane:<lane>`, `alias:<address>`, `*` and single values.

local function setting(name) return redis.call('HGET', P .. 'config', name) or nil end

local function lane_settings(lane)
  local found = setting('lane:' .. lane) or setting('*')
  if found then return cjson.decode(found) end
  return {app = 'default', parallel = 4, daily = 10000, rates = {{30, 60000}}}
end

-- Results, in the form of Celery's own Redis backend (docs.celeryq.dev: userguide/tasks, "task-result-backends").

local function iso(ms)
  local days, rest = math.floor(ms / DAY), ms % DAY
  -- days since 1970 to a date: howardhinnant.github.io/date_algorithms.html (civil_from_days)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03d+00:00', year, month, day, math.floor(rest / 3600000),
    math.floor(rest / 60000) % 60, math.floor(rest / 1000) % 60, rest % 1000)
end

local function exception(kind, text, module)
  return string.format('{"exc_type":%s,"exc_message":[%s],"exc_module":%s}', cjson.encode(kind), cjson.encode(text),
    cjson.encode(module))
end

local function why(job)
  local text = job.reason or 'unknown'
  if job.http_status then text = text .. ', HTTP ' .. job.http_status end
  if job.graph_code then text = text .. ', ' .. job.graph_code end
  return text
end

-- The state and result that Celery's AsyncResult shows; nil while it is to show PENDING.
local function celery_state(id, job)
  if job.status == 'accepted' then
    return 'SUCCESS', cjson.encode({
      id = id, status = 'accepted', http_status = tonumber(job.http_status) or cjson.null,
      request_id = job.request_id or cjson.null, client_request_id = job.client_request_id or cjson.null,
      attempts = tonumber(job.tries), accepted_at = iso(tonumber(job.ended)), sender = job.sender,
    })
  elseif job.status == 'dead' then return 'FAILURE', exception('MailDead', why(job), 'postroom.errors')
  elseif job.status == 'expired' then return 'FAILURE', exception('MailExpired', why(job), 'postroom.errors')
  elseif job.status == 'cancelled' then
    return 'REVOKED', exception('TaskRevokedError', 'cancelled', 'celery.exceptions')
  elseif job.status == 'deferred' then return 'RETRY', exception('Retry', why(job), 'celery.exceptions')
  end
end

local function show_result(id, job)
  if setting('results') ~= 'redis' then
    redis.call('ZADD', P .. 'results', now, id)
    return
  end
  local ids = redis.call('SMEMBERS', P .. 'mirrors:' .. id)
  ids[#ids + 1] = id
  local state, result = celery_state(id, job)
  for _, shown in ipairs(ids) do
    local key = 'celery-task-meta-' .. shown
    if state then
      local meta = string.format('{"status":"%s","result":%s,"traceback":null,"children":[],"date_done":"%s","task_id":%s}',
        state, result, iso(now), cjson.encode(shown))
      redis.call('SET', key, meta)
      redis.call('PUBLISH', key, meta)
    else
      redis.call('DEL', key)
    end
  end
end

-- Status: one writer, one index.

local function set_status(id, job, status, reason)
  local before = job.status
  if before ~= status then
    if before then redis.call('ZREM', P .. 'status:' .. before, id) end
    redis.call('ZADD', P .. 'status:' .. status, now, id)
  end
  local fields = {status = status, reason = reason or '', changed = now}
  update(id, job, fields)
  if before == 'deferred' or (status ~= 'queued' and status ~= 'sending') then show_result(id, job) end
end

-- Pauses: of a lane or an app. While there is trouble, one job at a time goes on as a probe.

local function trouble_key(scope, name) return P .. scope .. ':' .. name end

-- Only ever lengthened. An answer that arrives during the pause tells of the same trouble; one after it doubles.
local function pause(scope, name, wait, longest, reason)
  local key = trouble_key(scope, name)
  local till = tonumber(redis.call('HGET', key, 'pause_until') or 0)
  local streak = tonumber(redis.call('HGET', key, 'trouble') or 0)
  if till <= now then streak = redis.call('HINCRBY', key, 'trouble', 1) end
  local target = now + math.max(wait, math.min(wait * 2 ^ math.min(math.max(streak - 1, 0), 20), longest))
  if target > till then redis.call('HSET', key, 'pause_until', string.format('%d', target), 'pause_reason', reason) end
end

local function paused_until(scope, name)
  return tonumber(redis.call('HGET', trouble_key(scope, name), 'pause_until') or 0)
end

local function in_trouble(scope, name)
  return tonumber(redis.call('HGET', trouble_key(scope, name), 'trouble') or 0) > 0
end

local function trouble_over(scope, name)
  if not in_trouble(scope, name) then return end
  redis.call('HDEL', trouble_key(scope, name), 'trouble', 'pause_until', 'pause_reason')
  for _, lane in ipairs(redis.call('SPOP', trouble_key(scope, name) .. ':waiting', BATCH)) do
    redis.call('ZADD', P .. 'lanes', now, lane)
  end
end

-- Limits of a lane. What unmarked claims will spend is counted as spent.

local function rate_left(lane, cfg)
  local unmarked = redis.call('SCARD', of_lane('unmarked', lane))
  local left, ready, marks = math.huge, now, of_lane('marks', lane)
  for _, rate in ipairs(cfg.rates) do
    local most, window = rate[1], rate[2] + MARGIN
    local spent = redis.call('ZCOUNT', marks, '(' .. (now - window), '+inf')
    local here = most - spent - unmarked
    if here <= 0 and spent >= most then
      local oldest = redis.call('ZREVRANGE', marks, most - 1, most - 1, 'WITHSCORES')
      ready = math.max(ready, tonumber(oldest[2]) + window)
    end
    left = math.min(left, here)
  end
  return left, ready
end

local function recipients_spent(lane)
  local minutes, counts = of_lane('minutes', lane), of_lane('recipients', lane)
  for _, minute in ipairs(redis.call('ZRANGEBYSCORE', minutes, '-inf', now - DAY - MINUTE)) do
    local n = tonumber(redis.call('HGET', counts, minute) or 0)
    redis.call('HDEL', counts, minute)
    redis.call('ZREM', minutes, minute)
    redis.call('HINCRBY', counts, 'total', -n)
  end
  return tonumber(redis.call('HGET', counts, 'total') or 0)
end

local function recipients_reserved(lane)
  local sum = 0
  for _, id in ipairs(redis.call('SMEMBERS', of_lane('unmarked', lane))) do
    sum = sum + tonumber(redis.call('HGET', job_key(id), 'recipients') or 0)
  end
  return sum
end

local function spend_recipients(lane, minute, n)
  local counts = of_lane('recipients', lane)
  if n < 0 and redis.call('HEXISTS', counts, minute) == 0 then return end
  redis.call('HINCRBY', counts, minute, n)
  redis.call('HINCRBY', counts, 'total', n)
  redis.call('ZADD', of_lane('minutes', lane), minute, minute)
end

-- When `need` recipients fit into the last 24 hours again: now, or when enough old minutes have left them.
local function recipients_ready(lane, cfg, need)
  local over = recipients_spent(lane) + recipients_reserved(lane) + need - cfg.daily
  if over <= 0 then return now end
  local minutes, counts = of_lane('minutes', lane), of_lane('recipients', lane)
  for _, minute in ipairs(redis.call('ZRANGE', minutes, 0, -1)) do
    over = over - tonumber(redis.call('HGET', counts, minute) or 0)
    if over <= 0 then return tonumber(minute) + DAY + MINUTE end
  end
  return now + MINUTE  -- what is missing is held by claims that are still open
end

-- Which job goes next: high before normal before low, and one claim in ten is a low one's.

local function head_of(lane, turn)
  local heads = {}
  for _, class in ipairs(CLASSES) do
    heads[class] = redis.call('ZRANGE', of_lane('ready:' .. class, lane), 0, 0)[1]
  end
  if heads.high then return heads.high end
  if heads.low and turn % 10 == 9 then return heads.low end
  return heads.normal or heads.low
end

local function waiting(lane)
  local n = 0
  for _, class in ipairs(CLASSES) do n = n + redis.call('ZCARD', of_lane('ready:' .. class, lane)) end
  return n
end

local function turn_of(lane) return tonumber(redis.call('HGET', of_lane('lane', lane), 'turn') or 0) end

local function due_to_ready(lane)
  local due = redis.call('ZRANGEBYSCORE', of_lane('later', lane), '-inf', now, 'LIMIT', 0, BATCH)
  for _, id in ipairs(due) do
    local at = redis.call('HMGET', job_key(id), 'priority', 'seq')
    redis.call('ZREM', of_lane('later', lane), id)
    redis.call('ZADD', of_lane('ready:' .. at[1], lane), at[2], id)
    redis.call('HSET', job_key(id), 'place', 'ready')
  end
end

-- Hands: lanes whose answers are slow, or not known yet, hold at most half of them together.

local function is_slow(lane) return redis.call('HGET', of_lane('lane', lane), 'slow') ~= '0' end

local function no_hand_for_slow(lane)
  if not is_slow(lane) then return false end
  local half = math.max(1, math.floor(tonumber(redis.call('GET', P .. 'hands') or 8) / 2))
  return redis.call('ZCOUNT', P .. 'slow', now, '+inf') >= half
end

local function parallel(lane, cfg) return in_trouble('lane', lane) and 1 or cfg.parallel end

-- An app in trouble has one claim in all: its probe.
local function app_is_probed(app)
  if not in_trouble('app', app) then return false end
  local probe = redis.call('HMGET', trouble_key('app', app), 'probe', 'probe_until')
  return probe[1] and tonumber(probe[2]) > now
end

-- When the lane can next give a claim, and how many at once: nil where nothing waits.
local function outlook(lane, cfg)
  due_to_ready(lane)
  local ready = waiting(lane)
  if ready == 0 then
    local first = redis.call('ZRANGE', of_lane('later', lane), 0, 0, 'WITHSCORES')
    if not first[1] then return nil end
    return math.max(tonumber(first[2]), now), 0
  end
  local free = parallel(lane, cfg) - redis.call('ZCARD', of_lane('claims', lane))
  local at = math.max(now, paused_until('lane', lane), paused_until('app', cfg.app))
  local left, rate_ready = rate_left(lane, cfg)
  if free <= 0 or (left <= 0 and rate_ready <= now) then
    at = math.max(at, now + LOOK_AGAIN)  -- whoever holds the claims settles and goes on, or their leases end
  elseif left <= 0 then
    at = math.max(at, rate_ready)
  end
  local head = head_of(lane, turn_of(lane))
  at = math.max(at, recipients_ready(lane, cfg, tonumber(redis.call('HGET', job_key(head), 'recipients'))))
  if at <= now and app_is_probed(cfg.app) then
    redis.call('SADD', trouble_key('app', cfg.app) .. ':waiting', lane)
    at = now + LOOK_AGAIN
  end
  if at <= now and no_hand_for_slow(lane) then
    redis.call('ZADD', P .. 'slow:waiting', 'NX', now, lane)
    at = now + LOOK_AGAIN
  end
  return at, math.min(ready, math.max(free, 0), math.max(left, 0))
end

-- Rounds: asked for on Celery's queue, in Celery's message protocol 2 (docs.celeryq.dev: internals/protocol) as
-- kombu's Redis transport writes it. Doing it here makes "the job is in" and "a worker will come" one step.

local function ask(lane, queue)
  local id = 'round-' .. redis.call('INCR', P .. 'rounds')
  local body = '[[' .. cjson.encode(lane) .. '],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
  local message = string.format('{"body":%s,"content-encoding":"utf-8","content-type":"application/json",' ..
    '"headers":{"lang":"py","task":"postroom.round","id":"%s","root_id":"%s","parent_id":null,"group":null,' ..
    '"ignore_result":true,"retries":0,"eta":null,"expires":null,"timelimit":[null,null]},' ..
    '"properties":{"correlation_id":"%s","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"%s"},' ..
    '"priority":0,"delivery_tag":"%s"}}', cjson.encode(body), id, id, id, queue, id)
  redis.call('LPUSH', queue, message)
end

local function queue_is_long()
  local hands = tonumber(redis.call('GET', P .. 'hands') or 0)
  return redis.call('LLEN', 'postroom') + redis.call('LLEN', 'postroom.high') > 2 * hands
end

-- Sees to it that the lane's jobs will be fetched: rounds for what can go now, a wake-up for what must wait.
local function plan(lane, cfg)
  local at, can_go = outlook(lane, cfg)
  if not at then
    redis.call('ZREM', P .. 'lanes', lane)
    return
  end
  if at > now then
    redis.call('ZADD', P .. 'lanes', at, lane)
    return
  end
  local key = of_lane('lane', lane)
  local asked = redis.call('HMGET', key, 'asked', 'asked_at')
  local outstanding = tonumber(asked[1] or 0)
  if tonumber(asked[2] or 0) + ROUND_LOST_AFTER <= now then outstanding = 0 end
  local high = redis.call('EXISTS', of_lane('ready:high', lane)) == 1
  while outstanding < can_go do
    if queue_is_long() then
      redis.call('ZADD', P .. 'lanes', now, lane)
      return
    end
    ask(lane, high and 'postroom.high' or 'postroom')
    outstanding = outstanding + 1
    redis.call('HSET', key, 'asked', outstanding, 'asked_at', now)
  end
  redis.call('ZADD', P .. 'lanes', now + ROUND_LOST_AFTER, lane)
end

-- Moves of a job.

local function to_ready(id, job)
  redis.call('ZADD', of_lane('ready:' .. job.priority, job.lane), job.seq, id)
  update(id, job, {place = 'ready'})
end

local function to_later(id, job, at)
  redis.call('ZADD', of_lane('later', job.lane), at, id)
  update(id, job, {place = 'later', next_at = string.format('%d', at)})
end

local function leave(id, job)
  if job.place == 'ready' then redis.call('ZREM', of_lane('ready:' .. job.priority, job.lane), id)
  elseif job.place == 'later' then redis.call('ZREM', of_lane('later', job.lane), id)
  elseif job.place == 'claim' then
    redis.call('ZREM', of_lane('claims', job.lane), id)
    redis.call('SREM', of_lane('unmarked', job.lane), id)
    redis.call('ZREM', P .. 'leases', id)
    redis.call('ZREM', P .. 'suspects', id)
    if redis.call('ZREM', P .. 'slow', job.token) == 1 then
      local lane = redis.call('ZPOPMIN', P .. 'slow:waiting')[1]
      if lane then plan(lane, lane_settings(lane)) end
    end
    local app = trouble_key('app', lane_settings(job.lane).app)
    if redis.call('HGET', app, 'probe') == job.token then redis.call('HDEL', app, 'probe', 'probe_until') end
    update(id, job, {token = ''})
  end
end

-- Nobody knows what became of this attempt; `resends` counts how often that happened to a mail sent again.
local function doubt(job, fields, token)
  fields.resends = tonumber(job.resends or 0) + (job.in_doubt == '1' and 1 or 0)
  fields.in_doubt, fields.doubted = '1', token
end

local function finish(id, job, status, reason)
  update(id, job, {place = 'ended', ended = now, next_at = ''})
  set_status(id, job, status, reason)
  redis.call('ZREM', P .. 'expiring', id)
  -- what a person may requeue keeps its mail
  if status == 'accepted' or status == 'cancelled' then redis.call('DEL', mail_key(id)) end
end

local function may_expire(job)
  return job.expires and job.expires ~= '' and tonumber(job.expires) <= now and job.in_doubt ~= '1'
end

local function expire(id, job)
  leave(id, job)
  finish(id, job, 'expired', 'expired')
end
