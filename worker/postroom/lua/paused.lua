-- What keeps a lane waiting, its own pause or its app's: {until (ms), reason}, or {}.
-- ARGV: now, lane
local till, reason = pause_of(ARGV[2], lane_settings(ARGV[2]).app)
return till > now and {whole(till), reason} or {}
