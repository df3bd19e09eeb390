-- The mail of a job as JSON: {mail}, or {} if it is no longer kept.
-- ARGV: now, id
local job = record(ARGV[2])
local mail = job and read_mail(ARGV[2], job)
return mail and {mail} or {}
