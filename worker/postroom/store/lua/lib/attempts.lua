-- Attempts of a job: the list attempts:<id> has one entry for each that is over. The oldest are dropped, for a mailbox
-- may be held for days. The one that is under way, from its mark to its end, is in the record: `tries` is its number,
-- `began` when it was marked, and `marked_by` that number and the worker. (An older version marks a further attempt and
-- leaves `marked_by` as it is: it then has another number.)

local M = {}

local MINUTE, KEPT = constants.MINUTE, constants.BATCH

-- An entry as JSON: `details` is an object that is not empty; its number and when it began come before it.
function M.entry(details, number, at, client_request_id)
  local own = client_request_id and '"client_request_id":' .. cjson.encode(client_request_id) .. ',' or ''
  return '{"number":' .. number .. ',"at":' .. at .. ',' .. own .. string.sub(details, 2)
end

-- The one place where an attempt is recorded.
function M.push(id, job, entry)
  local count = redis.call('RPUSH', keys.attempts(id), entry)
  if count > KEPT then redis.call('LTRIM', keys.attempts(id), -KEPT, -1) end
  journal.note_attempt(id, job, entry)
end

-- Pushes what is no request of ours, such as a look-up or the end of a hold.
function M.push_unnumbered(id, job, details) M.push(id, job, M.entry(details, '0', call.stamp)) end

function M.begin(id, job, client_request_id, worker)
  local now, number = call.now, tonumber(job.tries or 0) + 1
  local minute = values.integer(math.floor(now / MINUTE) * MINUTE)
  recipient_limits.spend(job.lane, minute, tonumber(job.recipients))
  record.update(id, job, {
    minute = minute, tries = number, began = now, since = now, phase = 'sending',
    client_request_id = client_request_id, marked_by = worker ~= '' and values.integer(number) .. ' ' .. worker or '',
  })
  status.set(id, job, 'sending')
end

function M.finish(id, job, details)
  local began = job.began or job.since or call.stamp
  M.push(id, job, M.entry(details, job.tries or '0', began, job.client_request_id))
  record.update(id, job, {marked_by = ''})
end

-- The same where no worker tells what came of it, but the one that made it is known.
function M.finish_lost(id, job, reason)
  local number, worker = string.match(job.marked_by or '', '^(%d+) (.+)$')
  local details = {outcome = 'unknown', reason = reason, worker = number == job.tries and worker or nil}
  M.finish(id, job, cjson.encode(details))
end

return M
