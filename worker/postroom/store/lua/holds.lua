-- What people hold: a lane, or a batch, until it is released or its time is over. And what a log should say of holds.
--
-- The hashes lane:<lane> and held:<batch> keep `stopped_since`, `stopped_by`, `stopped_reason` and, where it ends by
-- itself, `stopped_until`. The set `holds` has the ends of them all. Jobs of a held batch stand aside:<batch>.

local HOUR = 3600000

local function held_batch_key(batch) return P .. 'held:' .. batch end
local function aside_key(batch) return P .. 'aside:' .. batch end

-- Until when a person holds it, as far as is known: who releases it wakes it.
local function stopped_until(state)
  if not state.stopped_since then return 0 end
  return tonumber(state.stopped_until or now + HOUR)
end

-- Whether this job must not leave because its batch is held.
local function stands_aside(batch)
  if not batch then return false end
  return stopped_until(state_of('held', batch)) > now
end

local function tell_of_hold(event, scope, name, facts)
  facts.scope, facts.name = scope, name
  tell(event, facts)
end
