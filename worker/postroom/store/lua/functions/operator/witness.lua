-- Notes what the doctor saw: whether an app may use a mailbox, or gets a token. Returns what is known of it, as names
-- and values of the fields in lib/verdicts.lua.
-- Arguments: now, 'lane' or 'app', its name, 'allowed' or 'refused' (or '': only look), the reason of a refusal

return function(arguments)
  local _, scope, name, verdict, reason = unpack(arguments, 1, 5)
  if verdict == 'allowed' then verdicts.allowed(scope, name)
  elseif verdict == 'refused' then verdicts.refused(scope, name, reason)
  end
  return verdicts.known(scope, name)
end
