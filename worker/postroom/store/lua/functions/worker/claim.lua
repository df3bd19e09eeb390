-- Starts a round: {'claimed', id, app, mail, fields of its record, rounds in the queue}, or {'nothing'}. Sees to the
-- next round of the lane.
-- Arguments: now, lane or '' for none, token, lease (ms), the worker's name or '', 1 if it may be given another lane's
--            round where this one has nothing, then each app for which it has a token of Entra's

return function(arguments)
  local _, lane, token, lease, worker, switch = unpack(arguments, 1, 6)
  local claimant, may_switch_lane = claiming.claimant(token, lease, worker, arguments, 7), switch == '1'
  local before = claiming.claimed_before(lane, config.limits(lane), token)
    or (may_switch_lane and rounds.remembered(token))
  if before then return claiming.reply(before) end
  if rounds.is_remembered(token) then return claiming.reply(nil) end  -- that claim has ended since
  local claim = lane ~= '' and rounds.start(lane, claimant)
  if claim then rounds.remember(claimant, claim[2], lane) end
  return claiming.reply(claim or (may_switch_lane and rounds.start_next(claimant)))
end
