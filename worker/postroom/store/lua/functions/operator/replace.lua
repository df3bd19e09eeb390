-- A dead letter goes on as another mail, a new job, and ends itself: {answer, new id}. Answers: 'replaced', or why not:
-- 'unknown', 'not_dead', 'in_doubt' (it may have been sent, and nobody said that twice is right), 'past_expiry',
-- 'busy', 'refused' (with the most recipients that the sender may reach in a day). The new job has the key and the
-- batch of the old one, and answers for it with the same fingerprint: whoever sends the mail as it was once more gets
-- the new job's receipt.
-- Arguments: now, act, new id, old id, the names of fields that are new (JSON), 1 if it may be sent twice, 1 to only
--            say what would be done, sender, priority, not before, expires, recipients, their index tokens, mail, its
--            `v`, its tags (lines)

local function obstacle(old, may_be_twice, expires)
  if not old then return 'unknown' end
  if old.status ~= 'dead' and old.status ~= 'expired' then return 'not_dead' end
  if old.in_doubt and not may_be_twice then return 'in_doubt' end
  if expires ~= '' and tonumber(expires) <= call.now then return 'past_expiry' end
  if old.place == 'claim' then return 'busy' end
end

local function add_successor(id, job, mail, due, note)
  intake.add_job(id, job, mail)
  audit.note(id, job, note.act, 'requeued', {job = note.old_id, fields = note.fields})
  intake.enqueue(id, job, due)
end

local function retire(old_id, old, id, act, fields)
  transitions.leave(old_id, old)
  record.update(old_id, old, {replaced_by = id, files = ''})  -- they are the new one's now
  ending.finish(old_id, old, 'cancelled', 'replaced')
  audit.note(old_id, old, act, 'replaced', {job = id, fields = fields})
  dispatch.plan_lane(old.lane or '')
end

return function(arguments)
  local _, act_text, id, old_id, fields_text, twice, dry = unpack(arguments, 1, 7)
  local sender, priority, due, expires, recipients, to, mail, v, tags = unpack(arguments, 8, 16)
  local act, fields, non_empty = cjson.decode(act_text), cjson.decode(fields_text), values.non_empty
  if redis.call('EXISTS', keys.job(id)) == 1 then return {'replaced', id} end
  local old = record.read(old_id)
  local why_not = obstacle(old, twice == '1', expires)
  if why_not then return {why_not, old and old.status or ''} end
  local lane = config.lane_of_sender(sender)
  local limits = config.limits(lane)
  if tonumber(recipients) > limits.daily then return {'refused', values.integer(limits.daily)} end
  if dry == '1' then return {'replaced', id} end
  local job = {
    sender = sender, lane = lane, priority = priority, recipients = tonumber(recipients), to = non_empty(to),
    key = old.key, fingerprint = old.fingerprint, batch = old.batch, expires = non_empty(expires), v = non_empty(v),
    tags = non_empty(tags), requeued_from = old_id, files = old.files,
    on_accepted = old.on_accepted, on_dead = old.on_dead,
    shared = old.shared, whole = old.shared and 1,  -- the mail is complete, and shares only the files
  }
  intake.start(1)
  record.create(id, job, add_successor, mail, tonumber(due), {act = act, old_id = old_id, fields = fields})
  intake.write_indexes()
  retire(old_id, old, id, act, fields)
  dispatch.plan(lane, limits)
  return {'replaced', id}
end
