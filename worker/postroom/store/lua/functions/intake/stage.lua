-- Keeps a part of a mail that is about to be taken in: {'staged'}, or what take_in.lua would answer: then it is not
-- kept.
-- Arguments: now, key, fingerprint, size of the mail, name of its files, name of the part ('' only asks), its value

return function(arguments)
  local _, key, fingerprint, size, files, part, value = unpack(arguments, 1, 7)
  local refusal = admission.refusal(values.non_empty(key), fingerprint, tonumber(size))
  if refusal then return refusal end
  if part ~= '' then
    redis.call('ZADD', keys.staged, call.now, files)
    redis.call('HSET', keys.files(files), part, value)
  end
  return {'staged'}
end
