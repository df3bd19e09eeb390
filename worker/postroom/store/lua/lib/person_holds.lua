-- What people hold: a lane, a batch, or one sender's part of a batch, until it is released or its time is over.
--
-- The hashes lane:<lane> and held:<batch> keep `stopped_since`, `stopped_by`, `stopped_reason` and, where it ends by
-- itself, `stopped_until`. The set `holds` has the ends of all of them. Jobs of a held batch are in aside:<batch>. The
-- part of a batch that is one sender's is held like a batch: its name is the batch's, a line break, and the sender's.

local M = {}

-- Until when a person holds this lane or batch, as far as is known; 0 where nobody does. A release wakes what waits.
function M.held_until(state)
  if not state.stopped_since then return 0 end
  return tonumber(state.stopped_until or call.now + constants.HOUR)
end

-- Whether this batch, or part of one, is held, so that its jobs must not leave.
function M.is_held(name) return M.held_until(states.read('held', name)) > call.now end

-- The batch and, of a part, its sender.
function M.split(name)
  local batch, sender = string.match(name, '^(.-)\n(.*)$')
  return batch or name, sender
end

function M.part(batch, sender) return batch .. '\n' .. (sender or '') end

-- What is held and keeps this job: its batch, or its sender's part of it; nil if nothing does.
function M.name_for(job)
  local batch = job.batch
  if not batch then return nil end
  local state = states.read('held', batch)
  if M.held_until(state) > call.now then return batch end
  if not state.parts then return nil end  -- most batches have none, and it is asked for each mail
  local part = M.part(batch, job.sender)
  return M.is_held(part) and part or nil
end

-- How many parts of its batch are held, when the hold of this part has begun (1) or ended (-1).
function M.count_part(name, change)
  local batch, sender = M.split(name)
  if not sender then return end
  if states.write('HINCRBY', 'held', batch, 'parts', change) <= 0 then states.write('HDEL', 'held', batch, 'parts') end
end

-- As JSON shows it to people.
function M.describe(scope, name, state)
  local sender
  if scope == 'batch' then name, sender = M.split(name) end
  return {
    scope = scope, name = name, sender = sender, reason = state.stopped_reason, by = state.stopped_by,
    since = tonumber(state.stopped_since), ends = tonumber(state.stopped_until),
  }
end

return M
