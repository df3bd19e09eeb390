-- Starts a round: {'claimed', id, app, record, mail}, or {'nothing'}. The lane's next round is seen to.
-- ARGV: now, lane, token, lease (ms)
local lane, token, lease = ARGV[2], ARGV[3], tonumber(ARGV[4])
local cfg = lane_settings(lane)
local found = claimed_before(lane, cfg, token)
if found then return found end
local asked = tonumber(state_of('lane', lane).asked or 0)
if asked > 0 then write_state('HSET', 'lane', lane, 'asked', asked - 1) end
local next, at, can_go = claim_next(lane, cfg, token, lease)
plan(lane, cfg, at, can_go)
hand_out(TURNS)
return next or {'nothing'}
