-- The content of a job: its mail, as JSON, and attachments apart from it.
--
-- What the mails of a batch have in common is kept once. The hash shared:<number> has it as `mail`, the name of its
-- `files`, its `digest` (by which the hash `shares` finds the number), and for each job that shares it, under the job's
-- id, what that mail has of its own. Such a job has no mail:<id>, but `shared` in its record. The last one to go
-- removes all of it.

local M = {}

local NOT_JOBS = 3  -- fields of shared:<number> that are no job's: mail, files, digest

-- Removes attachments by the name that `files` of a record says: they are in Redis, in pieces, or in a folder, from
-- which a worker removes them.
function M.drop_files(name)
  if name == '' then return end
  if redis.call('HEXISTS', keys.files(name), 'folder') == 1 then
    redis.call('ZADD', keys.files_to_remove, call.now, name)
  end
  redis.call('UNLINK', keys.files(name))
  redis.call('ZREM', keys.staged, name)
end

-- Two JSON objects as one.
local function merge_objects(common, own)
  if own == '{}' then return common end
  return string.sub(common, 1, -2) .. ',' .. string.sub(own, 2)
end

-- The mail as JSON; false where it is no longer kept.
function M.read_mail(id, job)
  if not job.shared then return redis.call('GET', keys.mail(id)) end
  local parts = redis.call('HMGET', keys.shared(job.shared), 'mail', id)
  local common, own = parts[1], parts[2]
  if job.whole then return own end  -- the mail was changed, and shares only the files
  return common and own and merge_objects(common, own)
end

function M.has_mail(id, job)
  if job.shared then return redis.call('HEXISTS', keys.shared(job.shared), id) == 1 end
  return redis.call('EXISTS', keys.mail(id)) == 1
end

local function leave_shared(id, number)
  local key = keys.shared(number)
  redis.call('HDEL', key, id)
  if redis.call('HLEN', key) > NOT_JOBS then return end
  local fields = redis.call('HMGET', key, 'files', 'digest')
  local files, digest = fields[1], fields[2]
  if files then M.drop_files(files) end
  if digest then redis.call('HDEL', keys.shares, digest) end
  redis.call('DEL', key)
end

function M.drop(id, job)
  if job.files then M.drop_files(job.files) end
  if not job.shared then return redis.call('DEL', keys.mail(id)) end
  leave_shared(id, job.shared)
  record.update(id, job, {shared = ''})
end

return M
