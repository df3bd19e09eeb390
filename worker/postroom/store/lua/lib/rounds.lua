-- A round begins with the first claim of its lane. It is asked for by a message, which Celery brings; or a worker's
-- slot that has nothing more to do in its lane takes it out of the queue itself, for Celery needs 2 ms of CPU for each.

local M = {}

function M.start(lane, claimant)
  local limits = config.limits(lane)
  dispatch.note_started(lane)
  local claim, at, can_go = claiming.claim_next(lane, limits, claimant)
  local is_open, how_many = dispatch.plan(lane, limits, at, can_go)
  dispatch.hand_out(dispatch.TURNS, {[lane] = is_open and how_many or nil})
  return claim
end

-- Keeps which job a token claimed in another lane than its own, for a claimant that asks again after a lost reply. If
-- the claimant does not, the claim ends with its lease.
function M.remember(claimant, id, lane)
  redis.call('SET', keys.next_round_claim(claimant.token), cjson.encode({id, lane}), 'PX', claimant.lease)
end

function M.is_remembered(token) return redis.call('EXISTS', keys.next_round_claim(token)) == 1 end

-- The claim that was remembered, if it is still one; else nil.
function M.remembered(token)
  local text = redis.call('GET', keys.next_round_claim(token))
  local id = text and cjson.decode(text)[1]
  local job = id and record.read(id)
  if not job or job.place ~= 'claim' or job.token ~= token then return nil end
  return claiming.describe(id, job, config.limits(job.lane), content.read_mail(id, job))
end

-- The claim with which the next round in the queue begins; nil where there is none, or another message comes first.
function M.start_next(claimant)
  for _ = 1, dispatch.TURNS do
    local lane = celery_message.pop_round()
    if not lane then return nil end
    local claim = M.start(lane, claimant)
    if claim then
      M.remember(claimant, claim[2], lane)
      return claim
    end
  end
end

return M
