-- A part of take_in.lua and take_in_many.lua: a mail as it is given in the arguments: job id, sender, priority, recipients,
-- their index tokens, key, fingerprint, not before, expires, what a worker must understand to send it (`v`, '' for 1), 1
-- if it is plain, bytes that Exchange counts, mail. What it has not is ''.

local GIVEN = 13          -- arguments
local SENDER, KEY = 1, 5  -- how far behind the first of them

-- Asks at once for the settings that mail of these is taken in by; those of what an alias stands for are asked for later.
local function know_senders(senders)
  local names = {'*', 'max_message'}
  for sender in pairs(senders) do
    names[#names + 1] = 'alias:' .. sender
    names[#names + 1] = 'lane:' .. sender
  end
  read_settings(names)
end

-- Its id, its record as far as it is given, the mail, and what else there is to know of it.
local function given_at(n, batch)
  local id, sender, priority, recipients, to, key, fingerprint, due, expires, v, plain, size, mail =
    unpack(ARGV, n, n + GIVEN - 1)
  return id, {
    sender = sender, lane = lane_of_sender(sender), priority = priority, recipients = recipients, to = filled(to),
    key = filled(key), fingerprint = filled(fingerprint), batch = batch, expires = filled(expires), v = filled(v),
    plain = filled(plain), created = stamp, seq = false, place = false, status = false,  -- room for what comes
  }, mail, tonumber(size), tonumber(due)
end

-- Why it is not taken in, if it is not: {'known'|'conflict'|'refused'|'no_drafts'|'too_large', …}.
local function why_not(job, size)
  local no = known(job.key, job.fingerprint) or too_large(size)
  if no then return no end
  local most = lane_settings(job.lane).daily
  if tonumber(job.recipients) > most then return {'refused', most} end
  if needs_draft(size) and tonumber(state_of('lane', job.lane).no_drafts_until or 0) > now then
    return {'no_drafts'}
  end
end

local function begin_job(id, job, mail, due)
  new_job(id, job, mail)
  if job.key then first_with[job.key] = id end
  line_up(id, job, due)
end
