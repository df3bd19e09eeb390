-- Takes a job in: 'new', or {'known'|'conflict'|'refused'|'no_drafts'|'too_large', job id, most recipients or most
-- bytes}, or {'unstaged'}: parts of it that were staged are gone.
-- Arguments: now, its batch, `on_accepted`, `on_dead`, the name of its files, how many parts they have; for a mail that
--            is not valid: the reason of its death and the details of its only attempt (JSON), else twice ''; the mail
--            as in mail_arguments.lua. What it does not have is ''.

local FIRST = 9

local function bury(id, job, mail, reason, details)
  intake.add_job(id, job, mail)
  intake.write_indexes()
  attempts.push_unnumbered(id, job, details)
  ending.finish(id, job, 'dead', reason)
end

local function keep(id, job, mail, due)
  if job.files then redis.call('ZREM', keys.staged, job.files) end
  record.create(id, job, intake.add_and_enqueue, mail, due)
  intake.write_indexes()
  intake.plan_for({{id = id, job = job}})
end

return function(arguments)
  local _, batch, on_accepted, on_dead, files, parts, death, details = unpack(arguments, 1, 8)
  mail_arguments.read_settings({[arguments[FIRST + mail_arguments.SENDER]] = true})
  local id, job, mail, size, due = mail_arguments.decode(arguments, FIRST, values.non_empty(batch))
  job.on_accepted, job.on_dead = values.non_empty(on_accepted), values.non_empty(on_dead)
  intake.start(1)
  local existing = redis.call('HMGET', keys.job(id), 'seq', 'files', 'fingerprint')
  if existing[1] then
    if (existing[2] or '') ~= files then content.drop_files(files) end  -- the same task ran twice at once
    local is_same = not existing[3] or not job.fingerprint or existing[3] == job.fingerprint
    return is_same and 'new' or {'conflict', id}
  end
  local refusal = admission.refusal_of_job(job, size)
  if refusal then
    content.drop_files(files)
    return refusal
  end
  if death ~= '' then
    record.create(id, job, bury, mail, death, details)
    return 'new'
  end
  if files ~= '' and redis.call('HLEN', keys.files(files)) ~= tonumber(parts) then return {'unstaged'} end
  job.files = values.non_empty(files)
  keep(id, job, mail, due)
  return 'new'
end
