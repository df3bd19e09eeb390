-- Keeps a part of a mail that is about to be taken in: {'staged'}, or what take-in would say: then it is not kept.
-- ARGV: now, key, fingerprint, size of the mail, name of its files, name of the part ('' only asks), its value
local key, fingerprint, size, files, part, value = filled(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]
local no = known(key, fingerprint) or too_large(size)
if no then return no end
if part ~= '' then
  redis.call('ZADD', P .. 'staged', now, files)
  redis.call('HSET', files_key(files), part, value)
end
return {'staged'}
