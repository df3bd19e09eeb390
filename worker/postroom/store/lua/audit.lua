-- What people do to jobs. An act is the JSON of `id`, `by` and perhaps `why`: the last few stand in the job's record as
-- `audit`, and a worker's log tells each.

local AUDITED = 20

local function audit_of(job) return job.audit and cjson.decode(job.audit) or {} end

-- What this act did to this job, when the reply was lost; nil if it has not been here.
local function done_before(job, act)
  for _, entry in ipairs(audit_of(job)) do
    if entry.act == act.id then return entry end
  end
end

-- `more` are further fields of the entry.
local function audit(id, job, act, did, more)
  local entries = audit_of(job)
  local entry = {act = act.id, at = now, by = act.by, why = act.why, did = did}
  for name, value in pairs(more or {}) do entry[name] = value end
  entries[#entries + 1] = entry
  while #entries > AUDITED do table.remove(entries, 1) end
  update(id, job, {audit = cjson.encode(entries)})
  tell('mail.' .. did, {job = id, by = act.by})
end

-- Does this to each job that is named from ARGV[first] on: {{id, what came of it, its status}, …}. The lanes of those
-- that moved are seen to, each once.
local function each(first, act)
  local said, lanes = {}, {}
  for i = first, #ARGV do
    local id = ARGV[i]
    local job = record(id)
    local lane, changed = job and job.lane, job and job.changed
    local answer = job and act(id, job) or 'unknown'
    if job and job.changed ~= changed then lanes[lane or ''], lanes[job.lane or ''] = true, true end
    said[#said + 1] = {id, answer, job and job.status or ''}
  end
  for lane in pairs(lanes) do plan(lane, lane_settings(lane)) end
  return said
end
