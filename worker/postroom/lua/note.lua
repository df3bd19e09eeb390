-- Before a request that sends nothing: renews the lease and keeps fields with the job: {'noted'}, or {'void'} (claim
-- lost: make no request).
-- ARGV: now, id, token, lease (ms), JSON of fields
local id, token, lease, fields = ARGV[2], ARGV[3], tonumber(ARGV[4]), cjson.decode(ARGV[5])
local job = record(id)
if not job or job.place ~= 'claim' or job.token ~= token then return {'void'} end
renew(id, job, lease)
update(id, job, fields)
return {'noted'}
