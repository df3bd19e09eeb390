-- Starts a round: {'claimed', id, app, now, record, mail}, or {'nothing'}. The lane's next round is seen to.
-- ARGV: now, lane, token, lease (ms)
local lane, token, lease = ARGV[2], ARGV[3], tonumber(ARGV[4])
local cfg = lane_settings(lane)
local asked = tonumber(redis.call('HGET', of_lane('lane', lane), 'asked') or 0)
redis.call('HSET', of_lane('lane', lane), 'asked', math.max(asked - 1, 0))
local found = claim_next(lane, cfg, token, lease)
plan(lane, cfg)
return found or {'nothing'}
