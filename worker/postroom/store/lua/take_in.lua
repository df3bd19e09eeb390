-- Takes a job in: 'new', or {'known'|'conflict'|'refused'|'no_drafts'|'too_large', job id, most recipients or most bytes},
-- or {'unstaged'}: parts of it that were staged are gone.
-- ARGV: now, its batch, `on_accepted`, `on_dead`, the name of its files, how many parts they are;
--       for a mail that is none: the reason of its death and what is said of its only attempt (JSON), else twice '';
--       the mail as in given.lua. What there is not is ''.
local batch, files, parts, dead, detail = ARGV[2], ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
local FIRST = 9
know_senders({[ARGV[FIRST + SENDER]] = true})
local id, job, mail, size, due = given_at(FIRST, filled(batch))
job.on_accepted, job.on_dead = filled(ARGV[3]), filled(ARGV[4])
expect(1)

local function bury()
  creating(id, job, function()
    new_job(id, job, mail)
    add_all()
    push_attempt(id, attempt_text(detail, '0', stamp))
    finish(id, job, 'dead', dead)
  end)
end

local function keep()
  job.files = filled(files)
  if job.files then redis.call('ZREM', P .. 'staged', files) end
  creating(id, job, begin_job, mail, due)
  add_all()
  plan_for({{id = id, job = job}})
end

local mine = redis.call('HMGET', job_key(id), 'seq', 'files')
if mine[1] then
  if (mine[2] or '') ~= files then drop_files(files) end  -- the same task ran twice at once
  return 'new'
end
local no = why_not(job, size)
if no then
  drop_files(files)
  return no
end
if dead ~= '' then
  bury()
elseif files ~= '' and redis.call('HLEN', files_key(files)) ~= parts then
  return {'unstaged'}
else
  keep()
end
return 'new'
