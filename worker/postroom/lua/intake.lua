-- A part of take_in.lua and replace.lua: a new job's record with its indexes, and its first place.

local function write_job(id, fields, mail)
  local seq, job = redis.call('INCR', P .. 'seq'), {}
  fields.created, fields.seq = now, seq
  update(id, job, fields)
  redis.call('SET', mail_key(id), mail)
  if job.key then redis.call('HSET', P .. 'keys', job.key, id) end
  if job.batch then redis.call('ZADD', P .. 'batch:' .. job.batch, seq, id) end
  for token in string.gmatch(job.to or '', '%S+') do redis.call('ZADD', P .. 'to:' .. token, seq, id) end
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
