-- Before a request that sends nothing: renews the lease and keeps fields with the job: {'noted'}, {'wait', ms} (paused
-- since the claim, or no upload left; the fields are kept all the same), or {'void'} (the claim is lost).
-- Arguments: now, id, token, lease (ms), JSON of fields, bytes of the request

local WAIT = 1000

return function(arguments)
  local _, id, token, lease, text, size = unpack(arguments, 1, 6)
  local fields, bytes = cjson.decode(text), tonumber(size)
  local has_draft = (fields.draft or '') ~= ''
  local job = record.read(id)
  if not job or job.place ~= 'claim' or job.token ~= token then
    if job and has_draft and fields.draft ~= job.draft then drafts.add_orphan(id, job, fields.draft) end
    return {'void'}
  end
  if has_draft then states.write('HDEL', 'lane', job.lane, 'no_drafts_until') end
  transitions.renew_lease(id, job, tonumber(lease))
  record.update(id, job, fields)
  local app = config.limits(job.lane).app
  local paused = pauses.of_lane(job.lane, app) - call.now
  if paused > 0 then return {'wait', paused} end
  if pauses.is_closed(job.lane, app) then return {'wait', WAIT} end
  local wait = bytes > 0 and upload_limits.spend(job.lane, bytes)
  return wait and {'wait', wait} or {'noted'}
end
