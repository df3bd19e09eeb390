-- Ends a claim and, if wanted, claims the next job, of the lane or of the next round's: {'settled'|'void', {'claimed',
-- …}} or {…, {'nothing'}}, as in claim.lua.
-- Arguments: now, lane, id, token, the transition (JSON, see settle_codec.py), next token or '', lease (ms), the
--            worker's name or '', 1 if the time slice of the round has expired, 1 if the worker may be given another
--            lane's round where this one is over, then the apps as for claim.lua

-- The next claim, if any; sees to the next round of the lane. Whoever asks again gets what the first call has claimed,
-- but never another job: a call that comes late may find that one long settled, and its worker gone.
local function go_on(lane, limits, claimant, is_first, slice_expired, may_switch_lane)
  local wants_next = claimant.token ~= ''
  local before = wants_next and not is_first and (
    claiming.claimed_before(lane, limits, claimant.token) or (may_switch_lane and rounds.remembered(claimant.token)))
  if before then return before end
  local others_wait = slice_expired and celery_message.rounds_waiting() > 0
  local claim, at, can_go
  local may_claim = wants_next and is_first
  if may_claim and not others_wait then claim, at, can_go = claiming.claim_next(lane, limits, claimant) end
  dispatch.plan(lane, limits, at, can_go)
  return claim or (may_claim and may_switch_lane and rounds.start_next(claimant))
end

return function(arguments)
  local _, lane, id, token, transition, next_token, lease, worker, slice, switch = unpack(arguments, 1, 10)
  local limits, claimant = config.limits(lane), claiming.claimant(next_token, lease, worker, arguments, 11)
  local answer, is_first = settlement.settle(lane, limits, id, token, cjson.decode(transition))
  return {answer, claiming.reply(go_on(lane, limits, claimant, is_first, slice == '1', switch == '1'))}
end
