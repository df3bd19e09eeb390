-- The content of a job: its mail, as JSON, and attachments apart from it.
--
-- What the mails of a batch have in common is kept once. The hash shared:<number> has it as `mail`, the name of its
-- `files`, its `digest` (by which the hash `shares` finds the number), and for each job that shares it, under the job's
-- id, what that mail has of its own: such a job has no mail:<id>, and `shared` in its record. The last one to go takes
-- all of it along.

-- Attachments by the name that `files` says: in pieces, or for a worker to remove from the folder.
local function drop_files(name)
  if name == '' then return end
  if redis.call('HEXISTS', files_key(name), 'folder') == 1 then redis.call('ZADD', P .. 'files', now, name) end
  redis.call('UNLINK', files_key(name))
  redis.call('ZREM', P .. 'staged', name)
end

local function shared_key(number) return P .. 'shared:' .. number end
local NOT_JOBS = 3  -- mail, files, digest

-- Two JSON objects as one.
local function joined(common, own)
  if own == '{}' then return common end
  return string.sub(common, 1, -2) .. ',' .. string.sub(own, 2)
end

-- false where it is no longer kept.
local function read_mail(id, job)
  if not job.shared then return redis.call('GET', mail_key(id)) end
  local found = redis.call('HMGET', shared_key(job.shared), 'mail', id)
  if job.whole then return found[2] end  -- it was changed, and is all its own
  return found[1] and found[2] and joined(found[1], found[2])
end

local function has_mail(id, job)
  if job.shared then return redis.call('HEXISTS', shared_key(job.shared), id) == 1 end
  return redis.call('EXISTS', mail_key(id)) == 1
end

local function drop_share(id, number)
  local key = shared_key(number)
  redis.call('HDEL', key, id)
  if redis.call('HLEN', key) > NOT_JOBS then return end
  local found = redis.call('HMGET', key, 'files', 'digest')
  if found[1] then drop_files(found[1]) end
  if found[2] then redis.call('HDEL', P .. 'shares', found[2]) end
  redis.call('DEL', key)
end

local function drop_content(id, job)
  if job.files then drop_files(job.files) end
  if not job.shared then return redis.call('DEL', mail_key(id)) end
  drop_share(id, job.shared)
  update(id, job, {shared = ''})
end
