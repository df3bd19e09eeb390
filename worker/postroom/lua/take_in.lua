-- Takes a job in: {'new'|'known'|'conflict'|'refused', job id or most recipients}.
-- ARGV: now, id, sender, priority, key, fingerprint, batch, not before, expires, recipients, their index tokens, mail,
--       and for a mail that is none: the reason of its death and a detail.
local id, sender, priority, key, fingerprint = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local batch, due, expires, recipients = ARGV[7], tonumber(ARGV[8]), ARGV[9], tonumber(ARGV[10])
local tokens, mail, dead, detail = ARGV[11], ARGV[12], ARGV[13], ARGV[14]

if redis.call('EXISTS', job_key(id)) == 1 then return {'new', id} end
local first = key ~= '' and redis.call('HGET', P .. 'keys', key)
if first then
  local known = redis.call('HMGET', job_key(first), 'fingerprint', 'status')
  if known[2] then
    if known[1] ~= fingerprint then return {'conflict', first} end
    return {'known', first}
  end
end
local lane = setting('alias:' .. sender) or sender
local cfg = lane_settings(lane)
if recipients > cfg.daily and dead == '' then return {'refused', cfg.daily} end

local seq = redis.call('INCR', P .. 'seq')
local job = {
  v = 1, sender = sender, lane = lane, priority = priority, recipients = recipients, created = now, seq = seq,
  attempts = 0, tries = 0,
}
for name, value in pairs({key = key, fingerprint = fingerprint, batch = batch, expires = expires, to = tokens}) do
  if value ~= '' then job[name] = value end
end
update(id, job, job)
redis.call('SET', mail_key(id), mail)
if key ~= '' then redis.call('HSET', P .. 'keys', key, id) end
if batch ~= '' then redis.call('ZADD', P .. 'batch:' .. batch, seq, id) end
for token in string.gmatch(tokens, '%S+') do redis.call('ZADD', P .. 'to:' .. token, seq, id) end

if dead ~= '' then
  redis.call('RPUSH', attempts_key(id), detail)
  finish(id, job, 'dead', dead)
  return {'new', id}
end
if expires ~= '' then redis.call('ZADD', P .. 'expiring', expires, id) end
if due and due > now then
  update(id, job, {scheduled = due})
  to_later(id, job, due)
  set_status(id, job, 'deferred', 'scheduled')
else
  to_ready(id, job)
  set_status(id, job, 'queued')
end
plan(lane, cfg)
return {'new', id}
