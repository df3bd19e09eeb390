-- A part of take_in.lua, take_in_many.lua and replace.lua: a new job's record with its indexes, and its first place.

-- The version of what an older worker cannot send, or would end without a word to its producer.
local SHARED_OR_CALLS = 2

local function new_job(id, fields, mail)
  local job = {}
  fields.created, fields.seq = now, redis.call('INCR', P .. 'seq')
  update(id, job, fields)
  local needs = (job.shared or job.on_accepted or job.on_dead) and SHARED_OR_CALLS or 1
  update(id, job, {v = math.max(tonumber(job.v), needs)})
  if job.shared then
    redis.call('HSET', shared_key(job.shared), id, mail)
  else
    redis.call('SET', mail_key(id), mail)
  end
  if job.key then redis.call('HSET', P .. 'keys', job.key, id) end
  if job.batch then redis.call('ZADD', P .. 'batch:' .. job.batch, job.seq, id) end
  for token in string.gmatch(job.to or '', '%S+') do redis.call('ZADD', P .. 'to:' .. token, job.seq, id) end
  if job.expires then redis.call('ZADD', P .. 'expiring', job.expires, id) end
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
local function needs_plan(job)
  local ahead = job.place == 'ready' and redis.call('ZCARD', of_lane('ready:' .. job.priority, job.lane)) - 1 or 0
  return ahead <= lane_settings(job.lane).parallel or not redis.call('ZSCORE', P .. 'lanes', job.lane)
end
