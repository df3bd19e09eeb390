-- Ends a claim and, if wanted, claims the next job, of the lane or of the next round's: {'settled'|'void', {'claimed', …}}
-- or {…, {'nothing'}}, as in claim.lua.
-- ARGV: now, lane, id, token, move (JSON of decided.py's `move`), next token or '', lease (ms), 1 if the slice is over,
--       1 if it may be another lane's round where this one is over, then the apps as for claim.lua
local lane, id, token = ARGV[2], ARGV[3], ARGV[4]
local next_token, hand = ARGV[6], hand_of(ARGV[6], ARGV[7], 10)
local slice_over, elsewhere = ARGV[8] == '1', ARGV[9] == '1'
local cfg = lane_settings(lane)

-- The next claim, if any. The lane's next round is seen to. Who asks again gets what the first call has claimed, but
-- never another one: a call that comes late may find that long settled, and its hand gone.
local function go_on(is_first)
  local may_have_one = next_token ~= '' and not is_first
  local before = may_have_one and (claimed_before(lane, cfg, next_token) or (elsewhere and chained_before(next_token)))
  if before then return before end
  local others_wait = slice_over and length_of('postroom') + length_of('postroom.high') > 0
  local found, at, can_go
  local may_claim = next_token ~= '' and is_first
  if may_claim and not others_wait then found, at, can_go = claim_next(lane, cfg, hand) end
  plan(lane, cfg, at, can_go)
  return found or (may_claim and elsewhere and next_round(hand))
end

local done, is_first = settle(lane, cfg, id, token, cjson.decode(ARGV[5]))
return {done, told(go_on(is_first))}
