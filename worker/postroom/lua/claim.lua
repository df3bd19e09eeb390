-- Starts a round: {'claimed', id, app, record, mail, rounds in the queue}, or {'nothing'}. The lane's next round is seen to.
-- ARGV: now, lane or '' for none, token, lease (ms), 1 if it may be another lane's round where this one has nothing
local lane, token, lease, elsewhere = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local before = claimed_before(lane, lane_settings(lane), token) or (elsewhere and chained_before(token))
if before then return told(before) end
return told((lane ~= '' and start_round(lane, token, lease)) or (elsewhere and next_round(token, lease)))
