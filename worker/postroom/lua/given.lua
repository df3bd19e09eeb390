-- A part of take_in.lua and take_in_many.lua: a mail as it is given in the arguments.

local GIVEN = 16  -- arguments

local function given_at(n)
  local sender = ARGV[n + 1]
  return {
    id = ARGV[n], sender = sender, lane = setting('alias:' .. sender) or sender, priority = ARGV[n + 2],
    key = ARGV[n + 3], fingerprint = ARGV[n + 4], batch = ARGV[n + 5], due = tonumber(ARGV[n + 6]),
    expires = ARGV[n + 7], recipients = ARGV[n + 8], tokens = ARGV[n + 9], mail = ARGV[n + 10],
    size = tonumber(ARGV[n + 11]), v = ARGV[n + 12], on_accepted = ARGV[n + 13], on_dead = ARGV[n + 14], plain = ARGV[n + 15],
  }
end

-- Why it is not taken in, if it is not: {'known'|'conflict'|'refused'|'no_drafts'|'too_large', …}.
local function why_not(given)
  local no = known(given.key, given.fingerprint) or too_large(given.size)
  if no then return no end
  local most = lane_settings(given.lane).daily
  if tonumber(given.recipients) > most then return {'refused', most} end
  if needs_draft(given.size) and tonumber(state_of('lane', given.lane).no_drafts_until or 0) > now then
    return {'no_drafts'}
  end
end

-- `apart`: the name of its files, or the number of what it shares.
local function job_of(given, apart)
  return new_job(given.id, {
    sender = given.sender, lane = given.lane, priority = given.priority, recipients = given.recipients, key = given.key,
    fingerprint = given.fingerprint, batch = given.batch, expires = given.expires, to = given.tokens,
    on_accepted = given.on_accepted, on_dead = given.on_dead, files = apart.files, shared = apart.shared,
    v = given.v, plain = given.plain,
  }, given.mail)
end

local function line_up_given(given, apart)
  return creating(given.id, function()
    local job = job_of(given, apart)
    first_with[given.key] = given.id
    line_up(given.id, job, given.due)
    return job
  end)
end
