-- Takes a job in: {'new'|'known'|'conflict'|'refused'|'no_drafts'|'too_large', job id, most recipients or most bytes}, or
-- {'unstaged'}: parts of it that were staged are gone.
-- ARGV: now, id, sender, priority, key, fingerprint, batch, not before, expires, recipients, their index tokens, mail,
--       for a mail that is none: the reason of its death and its only attempt (JSON), else twice '';
--       the size of the mail as Exchange counts it, the name of its files ('' if none), how many parts they are;
--       what a worker must understand to send it (`v`).
local id, sender, priority, key, fingerprint = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local batch, due, expires, recipients = ARGV[7], tonumber(ARGV[8]), ARGV[9], tonumber(ARGV[10])
local tokens, mail, dead, detail = ARGV[11], ARGV[12], ARGV[13], ARGV[14]
local size, files, parts = tonumber(ARGV[15] or 0), ARGV[16] or '', tonumber(ARGV[17] or 0)
local needs = ARGV[18] or 1

local function write(lane)
  return write_job(id, {
    sender = sender, lane = lane, priority = priority, recipients = recipients, key = key, fingerprint = fingerprint,
    batch = batch, expires = expires, to = tokens, files = files, v = needs,
  }, mail)
end

local function bury(job)
  local attempt = cjson.decode(detail)
  attempt.at = now
  push_attempt(id, attempt)
  finish(id, job, 'dead', dead)
end

local mine = record(id)
if mine then
  if mine.files ~= files then drop_files(files) end  -- the same task ran twice at once
  return {'new', id}
end
local no = known(key, fingerprint) or too_large(size)
if no then
  drop_files(files)
  return no
end
local lane = setting('alias:' .. sender) or sender
local cfg = lane_settings(lane)
if dead ~= '' then
  bury(write(lane))
elseif recipients > cfg.daily then
  drop_files(files)
  return {'refused', cfg.daily}
elseif needs_draft(size) and tonumber(redis.call('HGET', of_lane('lane', lane), 'no_drafts_until') or 0) > now then
  drop_files(files)
  return {'no_drafts'}
elseif redis.call('HLEN', files_key(files)) ~= parts then
  return {'unstaged'}
else
  redis.call('ZREM', P .. 'staged', files)
  line_up(id, write(lane), due)
  plan(lane, cfg)
end
return {'new', id}
