-- The one place where a mail ends.

local M = {}

local update = record.update

-- `job` has left its place before.
function M.finish(id, job, final_status, reason)
  update(id, job, {place = 'ended', ended = call.now, next_at = ''})
  status.set(id, job, final_status, reason)
  if job.expires then redis.call('ZREM', keys.expiring, id) end
  if job.in_doubt then redis.call('ZREM', keys.doubts, id) end
  if job.held_since then redis.call('ZREM', keys.held_alone, id) end
  -- what a person may requeue keeps its mail
  if final_status == 'accepted' or final_status == 'cancelled' then content.drop(id, job) end
  callbacks.add(id, job)
  journal.note_end(id, job)
  if drafts.are_left(job, final_status) then drafts.clean_up(id, job) end
end

-- A mail that may have left is never called expired.
function M.may_expire(job)
  return job.expires and tonumber(job.expires) <= call.now and not job.in_doubt and not job.ended
end

function M.expire(id, job)
  transitions.leave(id, job)
  M.finish(id, job, 'expired', 'expired')
end

-- A 202 came after the job's lease had been taken back; the record keeps that attempt as `left`.
function M.finish_late_accepted(id, job)
  local answer = cjson.decode(job.left)
  attempts.push(id, job, job.left)
  update(id, job, {http_status = answer.http_status or '', graph_code = '', request_id = answer.request_id or ''})
  M.finish(id, job, 'accepted')
end

return M
