-- Pauses a lane or an app, or with a wait of 0 ends its pause and trouble.
-- ARGV: now, 'lane' or 'app', name, wait (ms), reason
local scope, name, wait, reason = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
if wait > 0 then
  pause(scope, name, wait, wait, reason)
else
  trouble_over(scope, name)
  redis.call('HDEL', trouble_key(scope, name), 'pause_until', 'pause_reason')
end
if scope == 'lane' then plan(name, lane_settings(name)) end
return {string.format('%d', paused_until(scope, name))}
