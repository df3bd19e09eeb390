-- The mail of a job as JSON: {mail}, or {} if it is no longer kept.
-- Arguments: now, id

return function(arguments)
  local id = arguments[2]
  local job = record.read(id)
  local mail = job and content.read_mail(id, job)
  return mail and {mail} or {}
end
