-- What holds a lane back, its own pause or its app's, whichever ends later: {until (ms), reason}, or {}.
-- ARGV: now, lane
local longest = {}
for _, state in ipairs({state_of('lane', ARGV[2]), state_of('app', lane_settings(ARGV[2]).app)}) do
  local till = paused_until(state)
  if till > now and till > tonumber(longest[1] or 0) then longest = {whole(till), state.pause_reason} end
end
return longest
