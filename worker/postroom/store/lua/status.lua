-- Status: one writer, one index, and what Celery's AsyncResult shows of it.

local iso
do  -- the shared parts together may have 200 locals
  local last = {}  -- a mail's end is written twice in one step

  iso = function(ms)
    if ms == last.ms then return last.text end
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
    last.ms, last.text = ms, string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03d+00:00', year, month, day,
      math.floor(rest / 3600000), math.floor(rest / 60000) % 60, math.floor(rest / 1000) % 60, rest % 1000)
    return last.text
  end
end

local celery_state, show_result
do
  local function exception(kind, text, module)
    return string.format('{"exc_type":%s,"exc_message":[%s],"exc_module":%s}', cjson.encode(kind), cjson.encode(text),
      cjson.encode(module))
  end

  local function text_or_null(text) return text and cjson.encode(text) or 'null' end

  local function why(job)
    local text = job.reason or 'unknown'
    if job.http_status then text = text .. ', HTTP ' .. job.http_status end
    if job.graph_code then text = text .. ', ' .. job.graph_code end
    return text
  end

  -- The state and result in the form of Celery's own Redis backend; nil while it is to show PENDING.
  celery_state = function(id, job)
    if job.status == 'accepted' then
      return 'SUCCESS', '{"id":' .. cjson.encode(id) .. ',"status":"accepted","http_status":' .. (job.http_status or 'null') ..
        ',"request_id":' .. text_or_null(job.request_id) .. ',"client_request_id":' .. text_or_null(job.client_request_id) ..
        ',"attempts":' .. (job.tries or '0') .. ',"accepted_at":"' .. iso(tonumber(job.ended)) ..
        '","sender":' .. text_or_null(job.sender) .. '}'
    elseif job.status == 'dead' then return 'FAILURE', exception('MailDead', why(job), 'postroom.errors')
    elseif job.status == 'expired' then return 'FAILURE', exception('MailExpired', why(job), 'postroom.errors')
    elseif job.status == 'cancelled' then
      return 'REVOKED', exception('TaskRevokedError', 'cancelled', 'celery.exceptions')
    elseif job.status == 'deferred' then return 'RETRY', exception('Retry', why(job), 'celery.exceptions')
    end
  end

  local function write_result(shown, state, result)
    local key = 'celery-task-meta-' .. shown
    if not state then return redis.call('DEL', key) end
    local meta = string.format('{"status":"%s","result":%s,"traceback":null,"children":[],"date_done":"%s","task_id":%s}',
      state, result, iso(now), cjson.encode(shown))
    redis.call('SET', key, meta)
    redis.call('PUBLISH', key, meta)
  end

  show_result = function(id, job)
    if setting('results') ~= 'redis' then return redis.call('ZADD', P .. 'results', now, id) end
    local state, result = celery_state(id, job)
    write_result(id, state, result)
    for _, shown in ipairs(redis.call('SMEMBERS', mirrors_key(id))) do write_result(shown, state, result) end
  end
end

-- Jobs that have not ended stand in the order of arrival, each in the index of its status alone: there may be a million.
-- Those that have ended stand in that of their status as they came to it, for they are swept in that order, and in that of
-- their arrival in `jobs`. So `jobs` and the first three indexes together are all jobs in the order of arrival (page.lua).
local WAITING = {queued = true, deferred = true, sending = true}

local function leave_indexes(id, status)
  take_out(P .. 'status:' .. status, id)
  if not WAITING[status] then take_out(P .. 'jobs', id) end
end

local function enter_indexes(id, job, status)
  put_score(P .. 'status:' .. status, WAITING[status] and job.seq or now, id)
  if not WAITING[status] then put_score(P .. 'jobs', job.seq, id) end
end

-- `changed` counts: two changes may fall into one millisecond, and both must reach a result backend elsewhere. A job that
-- was never anything but queued has none: it has no result yet, and there may be a million.
local function set_status(id, job, status, reason)
  local before = job.status
  if before ~= status then
    if before then leave_indexes(id, before) end
    enter_indexes(id, job, status)
  end
  local changed = (before or status ~= 'queued') and tonumber(job.changed or 0) + 1 or ''
  update(id, job, {status = status, reason = reason or '', changed = changed})
  if before == 'deferred' or (status ~= 'queued' and status ~= 'sending') then show_result(id, job) end
end
