-- Which mail may be taken in.

local M = {}

-- Looks up all of these idempotency keys at once.
function M.look_up(names)
  if #names == 0 then return end
  local job_of_key = call.job_of_key
  for i, id in ipairs(redis.call('HMGET', keys.idempotency, unpack(names))) do job_of_key[names[i]] = id end
end

-- {'known'|'conflict', job id} if the key is taken; {'too_large', most bytes, its bytes}; nil where neither is.
function M.refusal(key, fingerprint, size)
  if key then
    if call.job_of_key[key] == nil then M.look_up({key}) end
    local id = call.job_of_key[key]
    local first = id and redis.call('HGET', keys.job(id), 'fingerprint')
    if first then return {first == fingerprint and 'known' or 'conflict', id} end
  end
  local most = tonumber(config.setting('max_message') or constants.MAX_MESSAGE)
  return size > most and {'too_large', values.integer(most), values.integer(size)} or nil
end

-- The same for a mail that is complete: {'refused', most recipients} and {'no_drafts'} too.
function M.refusal_of_job(job, size)
  local refusal = M.refusal(job.key, job.fingerprint, size)
  if refusal then return refusal end
  local most = config.limits(job.lane).daily
  if tonumber(job.recipients) > most then return {'refused', most} end
  local needs_draft = size > constants.MAX_REQUEST  -- only a draft carries what is larger than a request to Graph
  if not needs_draft then return nil end
  local may_make_none = tonumber(states.read('lane', job.lane).no_drafts_until or 0) > call.now
  return may_make_none and {'no_drafts'} or nil
end

return M
