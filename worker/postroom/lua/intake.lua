-- A part of take_in.lua, take_in_many.lua and replace.lua: a new job's record with its indexes, and its first place.

-- The version of what an older worker cannot send, or would end without a word to its producer.
local SHARED_OR_CALLS = 2

local jobs_to_come = 1           -- they take their numbers at once
local last_seq, next_seq = 0, 1

local function next_number()
  if next_seq > last_seq then
    last_seq = redis.call('INCRBY', P .. 'seq', jobs_to_come)
    next_seq = last_seq - jobs_to_come + 1
  end
  next_seq = next_seq + 1
  return whole(next_seq - 1)
end

-- The fields of its record are `job` without those that are empty; it is to be called while `creating`.
local function new_job(id, job, mail)
  job.created, job.seq = stamp, next_number()
  for name, value in pairs(job) do
    if value == '' then job[name] = nil end
  end
  if job.shared or job.on_accepted or job.on_dead then job.v = math.max(tonumber(job.v), SHARED_OR_CALLS) end
  if job.v == '1' then job.v = nil end
  if job.shared then
    put_field(shared_key(job.shared), id, mail)
  else
    redis.call('SET', mail_key(id), mail)
  end
  if job.key then put_field(P .. 'keys', job.key, id) end
  if job.batch then put_score(P .. 'batch:' .. job.batch, job.seq, id) end
  for token in string.gmatch(job.to or '', '%S+') do redis.call('ZADD', P .. 'to:' .. token, job.seq, id) end
  if job.expires then put_score(P .. 'expiring', job.expires, id) end
  return job
end

local function line_up(id, job, due)
  if due and due > now then
    update(id, job, {scheduled = due})
    to_later(id, job, due)
    set_status(id, job, 'deferred', 'scheduled')
  else
    to_ready(id, job)
    set_status(id, job, 'queued')
  end
end

-- Whether the lane has to be planned for this job, which came just now. Where it is planned already, a job that stands
-- behind more than it may send at once changes nothing.
local function needs_plan(id, job)
  local ahead = job.place == 'ready' and redis.call('ZRANK', of_lane('ready:' .. job.priority, job.lane), id) or 0
  return ahead <= lane_settings(job.lane).parallel or not redis.call('ZSCORE', P .. 'lanes', job.lane)
end
