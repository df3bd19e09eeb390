-- Removes what is kept no longer. Each function returns how much it did.

local M = {}

local STAGED_FOR = constants.HOUR
local SWEPT = 1000  -- entries of indexes that one tick removes
local RETENTION = {
  accepted = 'retention_accepted', cancelled = 'retention_accepted',
  dead = 'retention_dead', expired = 'retention_dead',
}

local function forget(id, job)
  local has_key = job.key and redis.call('HGET', keys.idempotency, job.key) == id
  if has_key then redis.call('HDEL', keys.idempotency, job.key) end
  if job.batch then redis.call('ZREM', keys.batch(job.batch), id) end
  for token in string.gmatch(job.to or '', '%S+') do redis.call('ZREM', keys.recipient(token), id) end
  indexes.leave_status(id, job.status)
  redis.call('ZREM', keys.doubts, id)
  redis.call('ZREM', keys.results, id)
  celery_result.remove(id)
  content.drop(id, job)
  redis.call('DEL', keys.job(id), keys.attempts(id), keys.mirrors(id))
end

-- Jobs that ended longer ago than their records are kept.
function M.ended_jobs()
  local left, swept = SWEPT, 0
  for name, setting in pairs(RETENTION) do
    local kept = tonumber(config.setting(setting))
    if kept then
      timed_sets.each_job(keys.status(name), call.now - kept, function(id, job)
        if left <= 0 then return end
        transitions.leave(id, job)
        left, swept = left - tonumber(job.recipients) - 1, swept + 1
        forget(id, job)
      end)
    end
  end
  return swept
end

-- What a producer has staged and not taken in: it died, or gave up.
function M.staged_files()
  local names = timed_sets.members(keys.staged, call.now - STAGED_FOR)
  for _, name in ipairs(names) do content.drop_files(name) end
  return #names
end

return M
