-- Takes a job in: {'new'|'known'|'conflict'|'refused'|'no_drafts'|'too_large', job id, most recipients or most bytes}, or
-- {'unstaged'}: parts of it that were staged are gone.
-- ARGV: now, the mail as in given.lua,
--       for a mail that is none: the reason of its death and what is said of its only attempt (JSON), else twice '';
--       the name of its files ('' if none), how many parts they are.
local given = given_at(2)
local dead, detail, files, parts = ARGV[18], ARGV[19], ARGV[20], tonumber(ARGV[21])

local function bury()
  local job = creating(given.id, function() return job_of(given, {}) end)
  push_attempt(given.id, attempt_text(detail, '0', stamp))
  finish(given.id, job, 'dead', dead)
end

local mine = redis.call('HMGET', job_key(given.id), 'seq', 'files')
if mine[1] then
  if (mine[2] or '') ~= files then drop_files(files) end  -- the same task ran twice at once
  return {'new', given.id}
end
local no = why_not(given)
if no then
  drop_files(files)
  return no
end
if dead ~= '' then
  bury()
elseif files ~= '' and redis.call('HLEN', files_key(files)) ~= parts then
  return {'unstaged'}
else
  if files ~= '' then redis.call('ZREM', P .. 'staged', files) end
  local job = line_up_given(given, {files = files})
  if needs_plan(given.id, job) then plan(job.lane, lane_settings(job.lane)) end
end
return {'new', given.id}
