-- Reads and writes the record of a job, the hash job:<id>.
--
-- A job is at any time in exactly one place, and the field `place` names it:
--   ready    in ready:<class>:<lane>        score: order of arrival; the class is the priority, or
--            `check`: to be looked up, or a draft to be removed; `again`: to be sent again after a look-up
--   later    in later:<lane>                score: when it is due
--   aside    in aside:<batch>               score: order of arrival; a person holds the batch
--   claim    in claims:<lane> and leases    score: when the lease ends; also in unmarked:<lane> until it is marked
--   ended    in status:<status> only
-- A job that has ended and left a draft goes through the first three once more, until the draft is removed (`tidy`).
-- Every function may be called again with the same arguments (a lost reply is asked for again) and changes nothing
-- then.

local M = {}

local integer = values.integer

-- Somebody may have written into a record by hand, and it may lack what the moves count on.
M.NUMBERS = {
  'expires', 'scheduled', 'requeued', 'attempts', 'tries', 'began', 'lost', 'resends', 'look_ups', 'v', 'changed',
  'since', 'ended', 'held_since', 'tidy', 'resend_from',
}
M.NEEDED_NUMBERS = {'seq', 'created', 'recipients'}
M.PRIORITIES = {high = true, normal = true, low = true}
M.PLACES = {ready = true, later = true, aside = true, claim = true, ended = true}

-- An error where one of these is no number. One sum takes an eighth of the time of a look at each.
local function sum_of_numbers(job)
  return job.seq + job.created + job.recipients + (job.expires or 0) + (job.scheduled or 0) + (job.requeued or 0) +
    (job.attempts or 0) + (job.tries or 0) + (job.began or 0) + (job.lost or 0) + (job.resends or 0) +
    (job.look_ups or 0) + (job.v or 0) + (job.changed or 0) + (job.since or 0) + (job.ended or 0) +
    (job.held_since or 0) + (job.tidy or 0) + (job.resend_from or 0)
end

local function bad_number(job)
  for _, name in ipairs(M.NEEDED_NUMBERS) do if not tonumber(job[name]) then return name end end
  for _, name in ipairs(M.NUMBERS) do if job[name] and not tonumber(job[name]) then return name end end
end

-- The name of a field that makes a record useless; nil where there is none.
local function unusable_field(job)
  local name = not pcall(sum_of_numbers, job) and bad_number(job)
  if name then return name end
  if not M.PRIORITIES[job.priority] then return 'priority' end
  if not M.PLACES[job.place] then return 'place' end
  return job.place ~= 'ended' and not job.lane and 'lane' or nil  -- a mail that was never valid may have none
end

-- The record of a job; nil where there is none, or none that can be used. Such a job becomes a dead letter:
-- damaged_records.lua, which needs all other modules, sets `bury_damaged` (id, job, field).
M.bury_damaged = nil

function M.read(id)
  local job = values.hash(keys.job(id))
  if not next(job) then return nil end
  local field = unusable_field(job)
  if not field then return job end
  M.bury_damaged(id, job, field)
end

local scratch = {}  -- reused by all writes: growing a table takes as long as filling it

local function write(id, fields)
  local set, removed, n = scratch, nil, 0
  for name, value in pairs(fields) do
    if value == '' then
      removed = removed or {}
      removed[#removed + 1] = name
    else
      set[n + 1] = name  -- two assignments: one with two targets would begin with the last, outside the array
      set[n + 2] = value
      n = n + 2
    end
  end
  if n > 0 then redis.call('HSET', keys.job(id), unpack(set, 1, n)) end
  if removed then redis.call('HDEL', keys.job(id), unpack(removed)) end
end

-- Changes fields of a record, in `job` and in Redis. An empty value removes the field, so a field that is there has a
-- value.
function M.update(id, job, fields)
  local open = call.open_record
  if open and open.id ~= id then open = nil end
  local changed = open and open.fields or {}
  for name, value in pairs(fields) do
    if value == '' then
      if job[name] then job[name], changed[name] = nil, '' end
    else
      if type(value) == 'number' then value = value == call.now and call.stamp or integer(value) end
      if job[name] ~= value then job[name], changed[name] = value, value end
    end
  end
  if not open then write(id, changed) end
end

-- Collects what `move` changes in this record, and writes it at once when `move` is over. `move` must not read the
-- record from Redis.
function M.write_once(id, move, ...)
  local open = {id = id, fields = {}}
  call.open_record = open
  move(id, ...)
  call.open_record = nil
  write(id, open.fields)
end

-- Writes a new record at once, after `make(id, job, …)` has completed it.
function M.create(id, job, make, ...)
  call.open_record = {id = id, fields = {}}
  make(id, job, ...)
  call.open_record = nil
  write(id, job)
end

return M
