-- Pauses a lane or an app, or with a wait of 0 ends its pause and trouble: {when it ends}.
-- Arguments: now, 'lane' or 'app', name, wait (ms), reason

return function(arguments)
  local _, scope, name, text, reason = unpack(arguments, 1, 5)
  local wait = tonumber(text)
  if wait > 0 then pauses.extend(scope, name, call.now + wait, reason) else fault_holds.end_trouble(scope, name) end
  if scope == 'lane' then dispatch.plan_lane(name) end
  return {values.integer(pauses.ends(states.read(scope, name)))}
end
