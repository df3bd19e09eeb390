-- A dead letter goes on as another mail, a new job, and ends itself: {answer, new id}. Answers: 'replaced', or why not:
-- 'unknown', 'not_dead', 'in_doubt' (it may have been sent, and nobody said that twice is right), 'past_expiry', 'busy',
-- 'refused'
-- (with the most recipients that the sender may reach in a day).
-- The new job has the key and the batch of the old one, and answers for it with the same fingerprint: whoever sends the
-- mail as it was once more gets the new job's receipt.
-- ARGV: now, act, new id, old id, the names of fields that are new (JSON), 1 if it may be sent twice,
--       1 to only say what would be done, sender, priority, not before, expires, recipients, their index tokens, mail,
--       what a worker must understand to send it (`v`)
local act, id, old_id, fields = cjson.decode(ARGV[2]), ARGV[3], ARGV[4], cjson.decode(ARGV[5])
local twice, dry = ARGV[6] == '1', ARGV[7] == '1'
local sender, recipients = ARGV[8], tonumber(ARGV[12])

local function obstacle(old)
  if not old then return 'unknown' end
  if old.status ~= 'dead' and old.status ~= 'expired' then return 'not_dead' end
  if old.in_doubt and not twice then return 'in_doubt' end
  if ARGV[11] ~= '' and tonumber(ARGV[11]) <= now then return 'past_expiry' end
  if old.place == 'claim' then return 'busy' end
end

local function succeed(old, lane)
  local job = {
    sender = sender, lane = lane, priority = ARGV[9], recipients = recipients, to = filled(ARGV[13]), key = old.key,
    fingerprint = old.fingerprint, batch = old.batch, expires = filled(ARGV[11]), v = filled(ARGV[15]),
    requeued_from = old_id, files = old.files, on_accepted = old.on_accepted, on_dead = old.on_dead,
    -- it is whole, and shares but the files
    shared = old.shared, whole = old.shared and 1,
  }
  expect(1)
  creating(id, job, function()
    new_job(id, job, ARGV[14])
    audit(id, job, act, 'requeued', {job = old_id, fields = fields})
    line_up(id, job, tonumber(ARGV[10]))
  end)
  add_all()
end

local function retire(old)
  leave(old_id, old)
  update(old_id, old, {replaced_by = id, files = ''})  -- they are the new one's now
  finish(old_id, old, 'cancelled', 'replaced')
  audit(old_id, old, act, 'replaced', {job = id, fields = fields})
  plan(old.lane or '', lane_settings(old.lane or ''))
end

if redis.call('EXISTS', job_key(id)) == 1 then return {'replaced', id} end
local old = record(old_id)
local why_not = obstacle(old)
if why_not then return {why_not, old and old.status or ''} end
local lane = lane_of_sender(sender)
local cfg = lane_settings(lane)
if recipients > cfg.daily then return {'refused', whole(cfg.daily)} end
if dry then return {'replaced', id} end
succeed(old, lane)
retire(old)
plan(lane, cfg)
return {'replaced', id}
