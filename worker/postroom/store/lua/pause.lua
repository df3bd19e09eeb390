-- Pauses a lane or an app, or with a wait of 0 ends its pause and trouble: {when it ends}.
-- ARGV: now, 'lane' or 'app', name, wait (ms), reason
local scope, name, wait, reason = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
if wait > 0 then pause(scope, name, now + wait, reason) else end_trouble(scope, name) end
if scope == 'lane' then plan(name, lane_settings(name)) end
return {whole(paused_until(state_of(scope, name)))}
