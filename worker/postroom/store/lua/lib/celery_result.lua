-- What Celery's AsyncResult(job id) shows of a job.

local M = {}

local function exception(kind, text, module)
  return string.format('{"exc_type":%s,"exc_message":[%s],"exc_module":%s}',
    cjson.encode(kind), cjson.encode(text), cjson.encode(module))
end

local function text_or_null(text) return text and cjson.encode(text) or 'null' end

local function cause(job)
  local text = job.reason or 'unknown'
  if job.http_status then text = text .. ', HTTP ' .. job.http_status end
  if job.graph_code then text = text .. ', ' .. job.graph_code end
  return text
end

-- State and result in the form of Celery's own Redis backend; nil while it is to show PENDING.
function M.of(id, job)
  if job.status == 'accepted' then
    return 'SUCCESS', '{"id":' .. cjson.encode(id) .. ',"status":"accepted"' ..
      ',"http_status":' .. (job.http_status or 'null') ..
      ',"request_id":' .. text_or_null(job.request_id) ..
      ',"client_request_id":' .. text_or_null(job.client_request_id) ..
      ',"attempts":' .. (job.tries or '0') .. ',"accepted_at":"' .. values.iso(tonumber(job.ended)) ..
      '","sender":' .. text_or_null(job.sender) .. '}'
  elseif job.status == 'dead' then return 'FAILURE', exception('MailDead', cause(job), 'postroom.errors')
  elseif job.status == 'expired' then return 'FAILURE', exception('MailExpired', cause(job), 'postroom.errors')
  elseif job.status == 'cancelled' then
    return 'REVOKED', exception('TaskRevokedError', 'cancelled', 'celery.exceptions')
  elseif job.status == 'deferred' then return 'RETRY', exception('Retry', cause(job), 'celery.exceptions')
  end
end

local function write(task_id, state, result)
  local key = keys.celery_result(task_id)
  if not state then return redis.call('DEL', key) end
  local meta = string.format('{"status":"%s","result":%s,"traceback":null,"children":[],"date_done":"%s","task_id":%s}',
    state, result, values.iso(call.now), cjson.encode(task_id))
  redis.call('SET', key, meta)
  redis.pcall('PUBLISH', key, meta)  -- a user without this channel only makes those wait longer who listen
end

-- Writes the result where it is kept in this Redis; else notes that a worker has to store it elsewhere.
function M.show(id, job)
  if config.setting('results') ~= 'redis' then return redis.call('ZADD', keys.results, call.now, id) end
  local state, result = M.of(id, job)
  write(id, state, result)
  for _, task_id in ipairs(redis.call('SMEMBERS', keys.mirrors(id))) do write(task_id, state, result) end
end

-- Removes the results of a job that is swept.
function M.remove(id)
  if config.setting('results') ~= 'redis' then return end
  redis.call('DEL', keys.celery_result(id))
  for _, task_id in ipairs(redis.call('SMEMBERS', keys.mirrors(id))) do
    redis.call('DEL', keys.celery_result(task_id))
  end
end

return M
