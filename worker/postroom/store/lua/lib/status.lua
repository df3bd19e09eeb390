-- The one writer of a job's status.

local M = {}

-- `changed` counts, for two changes may fall into one millisecond and both must reach a result backend elsewhere. A job
-- that was never anything but queued has none: it has no result yet, and there may be a million.
function M.set(id, job, status, reason)
  local before = job.status
  if before ~= status then
    if before then indexes.leave_status(id, before) end
    indexes.enter_status(id, job, status)
  end
  local changed = (before or status ~= 'queued') and tonumber(job.changed or 0) + 1 or ''
  record.update(id, job, {status = status, reason = reason or '', changed = changed})
  if before == 'deferred' or (status ~= 'queued' and status ~= 'sending') then celery_result.show(id, job) end
end

return M
