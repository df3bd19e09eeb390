-- Before a request that sends nothing: renews the lease and keeps fields with the job: {'noted'}, {'wait', ms} (paused
-- since the claim, or no upload left; the fields are kept all the same), or {'void'} (claim lost).
-- ARGV: now, id, token, lease (ms), JSON of fields, bytes of the request
local id, token, lease, fields, bytes = ARGV[2], ARGV[3], tonumber(ARGV[4]), cjson.decode(ARGV[5]), tonumber(ARGV[6])
local job = record(id)
if not job or job.place ~= 'claim' or job.token ~= token then
  if job and (fields.draft or '') ~= '' and fields.draft ~= job.draft then strand(id, job, fields.draft) end
  return {'void'}
end
if (fields.draft or '') ~= '' then write_state('HDEL', 'lane', job.lane, 'no_drafts_until') end
renew(id, job, lease)
update(id, job, fields)
local app = lane_settings(job.lane).app
local paused = pause_of(job.lane, app) - now
if paused > 0 then return {'wait', paused} end
if is_closed(job.lane, app) then return {'wait', 1000} end
local wait = bytes > 0 and spend_upload(job.lane, bytes)
return wait and {'wait', wait} or {'noted'}
