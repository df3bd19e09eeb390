-- A record that cannot be used becomes a dead letter: it must neither stop the work on all others nor hide.

local STATUSES = {'queued', 'deferred', 'sending', 'accepted', 'dead', 'cancelled', 'expired'}

local function repaired_fields(job)
  local fields = {status = '', ended = call.now}
  for _, name in ipairs(record.NUMBERS) do if not tonumber(job[name]) then fields[name] = '' end end
  for _, name in ipairs(record.NEEDED_NUMBERS) do fields[name] = tonumber(job[name]) or 0 end
  fields.priority = record.PRIORITIES[job.priority] and job.priority or 'normal'
  return fields
end

function record.bury_damaged(id, job, field)
  local lane, fields = job.lane or '', repaired_fields(job)
  transitions.remove_from_ready(id, lane)
  redis.call('ZREM', keys.later(lane), id)
  transitions.remove_from_aside(id, job)
  for _, name in ipairs(STATUSES) do indexes.leave_status(id, name) end
  record.update(id, job, fields)
  if not job.lane then record.update(id, job, {lane = job.sender or 'nobody'}) end
  if job.phase == 'sending' then attempts.finish_lost(id, job, 'damaged') end
  transitions.leave_claim(id, job)
  attempts.push_unnumbered(id, job, cjson.encode({
    outcome = 'refused', reason = 'damaged', detail = 'its record has no usable ' .. field,
  }))
  ending.finish(id, job, 'dead', 'damaged')
  events.log('mail.damaged', {job = id, field = field})
end
