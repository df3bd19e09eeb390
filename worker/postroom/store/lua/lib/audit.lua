-- What people do to jobs. An act is JSON with `id`, `by` and perhaps `why`. The last few are in the record as `audit`,
-- and a worker's log tells each.

local M = {}

local AUDITED = 20

local function entries_of(job) return job.audit and cjson.decode(job.audit) or {} end

-- What this act did to this job, when the reply was lost; nil if it has not been here.
function M.done_before(job, act)
  for _, entry in ipairs(entries_of(job)) do
    if entry.act == act.id then return entry end
  end
end

-- `more` are further fields of the entry.
function M.note(id, job, act, did, more)
  local entries = entries_of(job)
  local entry = {act = act.id, at = call.now, by = act.by, why = act.why, did = did}
  for name, value in pairs(more or {}) do entry[name] = value end
  entries[#entries + 1] = entry
  while #entries > AUDITED do table.remove(entries, 1) end
  record.update(id, job, {audit = cjson.encode(entries)})
  events.log('mail.' .. did, {job = id, by = act.by})
end

-- Calls `act(id, job)` for each job that is named from arguments[first] on: {{id, its answer, its status}, …}. Plans
-- the lanes of those that moved, each once.
function M.each_job(arguments, first, act)
  local answers, lanes = {}, {}
  for i = first, #arguments do
    local id = arguments[i]
    local job = record.read(id)
    local lane, changed = job and job.lane, job and job.changed
    local answer = job and act(id, job) or 'unknown'
    if job and job.changed ~= changed then lanes[lane or ''], lanes[job.lane or ''] = true, true end
    answers[#answers + 1] = {id, answer, job and job.status or ''}
  end
  dispatch.plan_lanes(lanes)
  return answers
end

return M
