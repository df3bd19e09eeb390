-- Keeps a part of a mail that is about to be taken in: {'staged'}, or what take-in would say: then nothing is kept.
-- ARGV: now, id, key, fingerprint, size of the mail, name of its files, name of the part ('' only asks), its value
local id, key, fingerprint, size = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local files, part, value = ARGV[6], ARGV[7], ARGV[8]
local no = redis.call('EXISTS', job_key(id)) == 1 and {'new', id} or known(key, fingerprint) or too_large(size)
if no then
  drop_files(files)
  return no
end
if part ~= '' then
  redis.call('ZADD', P .. 'staged', now, files)
  redis.call('HSET', files_key(files), part, value)
end
return {'staged'}
