-- Keeps a part of a mail that is about to be taken in: {'staged'}, or what take-in would say: then nothing is kept.
-- ARGV: now, id, key, fingerprint, size of the mail, name of the part ('' only asks), its value
local id, key, fingerprint, size, part, value = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]
if redis.call('EXISTS', job_key(id)) == 1 then return {'new', id} end
local no = known(key, fingerprint) or too_large(size)
if no then
  drop_files(id)
  return no
end
if part ~= '' then
  redis.call('ZADD', P .. 'staged', now, id)
  redis.call('HSET', files_key(id), part, value)
end
return {'staged'}
