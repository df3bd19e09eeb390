-- Sorted sets whose scores are times: what is due, a batch at most.

local M = {}

function M.members(set, till, most)
  return redis.call('ZRANGEBYSCORE', set, '-inf', values.integer(till), 'LIMIT', 0, most or constants.BATCH)
end

-- Calls `handle(id, job)` for each job. A job is read when its turn has come, for what was done for the one before may
-- have moved it. An entry without a record (somebody deleted that by hand) is removed. Returns how many entries there
-- were.
function M.each_job(set, till, handle)
  local ids = M.members(set, till)
  for _, id in ipairs(ids) do
    local job = record.read(id)
    if job then handle(id, job) elseif redis.call('EXISTS', keys.job(id)) == 0 then redis.call('ZREM', set, id) end
  end
  return #ids
end

return M
