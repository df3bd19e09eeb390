-- Starts a round: {'claimed', id, app, mail, what is told of its record, rounds in the queue}, or {'nothing'}. The lane's next round is seen to.
-- ARGV: now, lane or '' for none, token, lease (ms), 1 if it may be another lane's round where this one has nothing,
--       then each app for which the worker has a token of Entra's
local lane, hand, elsewhere = ARGV[2], hand_of(ARGV[3], ARGV[4], 6), ARGV[5] == '1'
local before = claimed_before(lane, lane_settings(lane), hand.token) or (elsewhere and chained_before(hand.token))
if before then return told(before) end
if redis.call('EXISTS', chained_key(hand.token)) == 1 then return told(nil) end  -- it has come to its end since
local found = lane ~= '' and start_round(lane, hand)
if found then remember(hand, found[2], lane) end
return told(found or (elsewhere and next_round(hand)))
