-- A part of take_in.lua and take_in_many.lua: a mail as it is given in the arguments.

local GIVEN = {
  'id', 'sender', 'priority', 'key', 'fingerprint', 'batch', 'due', 'expires', 'recipients', 'tokens', 'mail', 'size',
  'v', 'on_accepted', 'on_dead',
}

local function given_at(first)
  local given = {}
  for i, name in ipairs(GIVEN) do given[name] = ARGV[first + i - 1] end
  given.due, given.recipients, given.size = tonumber(given.due), tonumber(given.recipients), tonumber(given.size)
  given.lane = setting('alias:' .. given.sender) or given.sender
  return given
end

-- Why it is not taken in, if it is not: {'known'|'conflict'|'refused'|'no_drafts'|'too_large', …}.
local function why_not(given)
  local no = known(given.key, given.fingerprint) or too_large(given.size)
  if no then return no end
  local most = lane_settings(given.lane).daily
  if given.recipients > most then return {'refused', most} end
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
    v = given.v,
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
