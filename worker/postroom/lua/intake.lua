-- A part of take_in.lua, take_in_many.lua and replace.lua: a new job's record with its indexes, and its first place.

-- The version of what an older worker cannot send, or would end without a word to its producer.
local SHARED_OR_CALLS = 2

local function write_job(id, fields, mail)
  local seq, job = redis.call('INCR', P .. 'seq'), {}
  for name, value in pairs(fields) do
    if value == '' then fields[name] = nil end
  end
  local needs = (fields.shared or fields.on_accepted or fields.on_dead) and SHARED_OR_CALLS or 1
  fields.v = math.max(tonumber(fields.v), needs)
  fields.created, fields.seq = now, seq
  update(id, job, fields)
  if job.shared then
    redis.call('HSET', shared_key(job.shared), id, mail)
  else
    redis.call('SET', mail_key(id), mail)
  end
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
