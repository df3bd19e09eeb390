-- The mailbox's limits. What claims that are not marked yet will spend is counted as spent.

local MARGIN = 1000  -- a request may reach Graph a little later than its mark

-- How many marks the rates leave, and when there will be one more if they leave none.
local function rate_left(lane, cfg)
  if not cfg.rates[1] then return math.huge, now end
  local unmarked = redis.call('SCARD', of_lane('unmarked', lane))
  local left, ready, marks = math.huge, now, of_lane('marks', lane)
  for _, rate in ipairs(cfg.rates) do
    local most, window = rate[1], rate[2] + MARGIN
    local spent = redis.call('ZCOUNT', marks, '(' .. whole(now - window), '+inf')
    if spent >= most then
      local oldest = redis.call('ZREVRANGE', marks, most - 1, most - 1, 'WITHSCORES')
      ready = math.max(ready, tonumber(oldest[2]) + window)
    end
    left = math.min(left, most - spent - unmarked)
  end
  return left, ready
end

local function spend_rate(lane, cfg, mark)
  local longest, marks = 0, of_lane('marks', lane)
  for _, rate in ipairs(cfg.rates) do longest = math.max(longest, rate[2] + MARGIN) end
  if longest == 0 then return end
  redis.call('ZREMRANGEBYSCORE', marks, '-inf', whole(now - longest))
  redis.call('ZADD', marks, now, mark)
end

-- Recipients of the last 24 hours, in buckets of a minute: the hash recipients:<lane>, with its sum as `total`.

local spend_recipients, recipients_ready
do  -- the shared parts together may have 200 locals
  local MOST_RECIPIENTS = 500  -- of one mail; faults.py's MAX_RECIPIENTS

  local function forget_old_minutes(lane)
    local minutes, counts = of_lane('minutes', lane), of_lane('recipients', lane)
    for _, minute in ipairs(redis.call('ZRANGEBYSCORE', minutes, '-inf', whole(now - DAY - MINUTE))) do
      redis.call('HINCRBY', counts, 'total', -tonumber(redis.call('HGET', counts, minute) or 0))
      redis.call('HDEL', counts, minute)
      redis.call('ZREM', minutes, minute)
    end
  end

  spend_recipients = function(lane, minute, n)
    local counts = of_lane('recipients', lane)
    if n < 0 and redis.call('HEXISTS', counts, minute) == 0 then return end  -- more than a day ago
    redis.call('HINCRBY', counts, 'total', n)
    if redis.call('HINCRBY', counts, minute, n) == n then
      redis.call('ZADD', of_lane('minutes', lane), minute, minute)
      forget_old_minutes(lane)
    end
  end

  local function recipients_reserved(lane)
    local sum = 0
    for _, id in ipairs(redis.call('SMEMBERS', of_lane('unmarked', lane))) do
      sum = sum + (tonumber(redis.call('HGET', job_key(id), 'recipients') or 0) or 0)
    end
    return sum
  end

  -- When this job's recipients fit into the last 24 hours too: now, or when enough old minutes have left them. And
  -- whether those of one claim more fit then, whatever they are.
  recipients_ready = function(lane, cfg, id, claims)
    local counts = of_lane('recipients', lane)
    local spent = tonumber(redis.call('HGET', counts, 'total') or 0)
    local room = cfg.daily - spent - (claims + 1) * MOST_RECIPIENTS
    if room >= 0 then return now, room >= MOST_RECIPIENTS end  -- whatever they are
    local need = tonumber(redis.call('HGET', job_key(id), 'recipients') or 0) or 0
    if need > cfg.daily then return now end  -- never: its claim will say so
    forget_old_minutes(lane)
    spent = tonumber(redis.call('HGET', counts, 'total') or 0)
    local over = spent + recipients_reserved(lane) + need - cfg.daily
    if over <= 0 then return now end
    counts = hash(counts)
    for _, minute in ipairs(redis.call('ZRANGE', of_lane('minutes', lane), 0, -1)) do
      over = over - tonumber(counts[minute] or 0)
      if over <= 0 then return tonumber(minute) + DAY + MINUTE end
    end
    return now + MINUTE  -- what is missing is held by claims that are still open
  end
end

-- Bytes uploaded in the last 5 minutes: the hash uploaded:<lane>, in buckets of 5 s, with its sum as `total`.
-- https://learn.microsoft.com/graph/throttling-limits#outlook-service-limits

local spend_upload
do  -- a function of Lua has at most 200 locals, and so have all the shared parts together
  local UPLOAD_WINDOW, UPLOAD_BUCKET = 300000, 5000
  local UPLOAD_MOST = 150000000

  local function forget_old_uploads(lane)
    local key = of_lane('uploaded', lane)
    for at, bytes in pairs(hash(key)) do
      if at ~= 'total' and tonumber(at) + UPLOAD_BUCKET + UPLOAD_WINDOW + MARGIN <= now then
        redis.call('HDEL', key, at)
        redis.call('HINCRBY', key, 'total', -tonumber(bytes))
      end
    end
  end

  -- When so many bytes more fit, if not now.
  local function upload_ready(lane, bytes)
    local over = tonumber(redis.call('HGET', of_lane('uploaded', lane), 'total') or 0) + bytes - UPLOAD_MOST
    local buckets = hash(of_lane('uploaded', lane))
    buckets.total = nil
    local starts = {}
    for at in pairs(buckets) do starts[#starts + 1] = at end
    table.sort(starts, function(a, b) return tonumber(a) < tonumber(b) end)
    for _, at in ipairs(starts) do
      over = over - tonumber(buckets[at])
      if over <= 0 then return tonumber(at) + UPLOAD_BUCKET + UPLOAD_WINDOW + MARGIN end
    end
    return now
  end

  -- Spends the bytes of a request; where they do not fit, says how long until they do (ms).
  spend_upload = function(lane, bytes)
    local key = of_lane('uploaded', lane)
    if redis.call('HINCRBY', key, 'total', bytes) > UPLOAD_MOST then
      redis.call('HINCRBY', key, 'total', -bytes)
      forget_old_uploads(lane)
      local at = upload_ready(lane, bytes)
      if at > now then return at - now end
      redis.call('HINCRBY', key, 'total', bytes)
    end
    local bucket = whole(math.floor(now / UPLOAD_BUCKET) * UPLOAD_BUCKET)
    if redis.call('HINCRBY', key, bucket, bytes) == bytes then forget_old_uploads(lane) end
  end
end
