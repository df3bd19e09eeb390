-- Drafts that jobs leave in a mailbox, and that have to be removed. A claim removes one, like all requests: a claim is
-- the mailbox's slot. The record says what there is to remove: `draft`, `drafting` (its creation was under way),
-- `strays` (orphaned drafts, of claims that were lost), `late_draft` (a creation that was never answered); and `tidy`,
-- the number of the try, while the job goes through its lane for that.

local M = {}

local LATEST = constants.MINUTE  -- by then a creation that was never answered has come about, or never will
local TRIES = 8

-- A mail that is not sent leaves no draft behind; but the draft of a dead one in doubt is what a person looks at.
function M.are_left(job, final_status)
  local is_unsent = job.drafting and final_status ~= 'accepted' and not (job.in_doubt and final_status == 'dead')
  return is_unsent or job.strays or job.late_draft
end

-- The job goes through its lane once more.
function M.clean_up(id, job)
  record.update(id, job, {tidy = 1})
  transitions.to_later(id, job, call.now + (job.late_draft and LATEST or 0))
  record.update(id, job, {next_at = ''})
end

-- A draft that was made for a claim that is lost.
function M.add_orphan(id, job, draft)
  if job.strays and string.find(' ' .. job.strays .. ' ', ' ' .. draft .. ' ', 1, true) then return end
  record.update(id, job, {strays = (job.strays and job.strays .. ' ' or '') .. draft})
  if job.place ~= 'ended' then return end
  M.clean_up(id, job)
  dispatch.plan_lane(job.lane)
end

-- Ends such a claim. A draft that cannot be removed after hours stays.
function M.finish_clean_up(id, job, is_removed)
  local try = tonumber(job.tidy)
  if is_removed or try >= TRIES then
    record.update(id, job, {
      place = 'ended', tidy = '', draft = '', drafting = '', to_add = '', upload = '', range = '', strays = '',
      late_draft = '', next_at = '',
    })
  else
    record.update(id, job, {tidy = try + 1})
    transitions.to_later(id, job, call.now + constants.MINUTE * 2 ^ try)
  end
end

return M
