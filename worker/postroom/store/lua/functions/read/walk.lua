-- One page of an index of jobs, newest first: {where the next page begins or '', {ids that fit}, {how many of them are
-- what: status, reason, 1 if in doubt, count, the newest one's id and score, …}}.
-- Arguments: now, index, where the page begins or '' (the newest), since (ms, or '-inf'), most, filter (JSON of fields)

-- A page ends between two scores, never within one, so a score is all that a walk has to remember. How many jobs can
-- share one is bounded by what Redis does in a millisecond.
local function page(index, before, since, most)
  local from = before == '' and '+inf' or before
  local entries = redis.call('ZREVRANGEBYSCORE', index, from, since, 'WITHSCORES', 'LIMIT', 0, most)
  if #entries < 2 * most then return entries, '' end
  local last = entries[#entries]
  while #entries > 0 and entries[#entries] == last do
    table.remove(entries)
    table.remove(entries)
  end
  local ties = redis.call('ZREVRANGEBYSCORE', index, last, last, 'WITHSCORES')
  for i = 1, #ties do entries[#entries + 1] = ties[i] end
  return entries, '(' .. last
end

local function fits(job, filter)
  return not (filter.reason and job.reason ~= filter.reason or filter.sender and job.sender ~= filter.sender
    or filter.batch and job.batch ~= filter.batch)
end

local function read(id)
  local fields = redis.call('HMGET', keys.job(id), 'status', 'reason', 'in_doubt', 'sender', 'batch')
  return fields[1] and {
    status = fields[1], reason = fields[2], in_doubt = fields[3], sender = fields[4], batch = fields[5],
  }
end

return function(arguments)
  local _, name, before, since, most, text = unpack(arguments, 1, 6)
  local filter, ids, groups, order = cjson.decode(text), {}, {}, {}
  local entries, next_page = page(keys.index(name), before, since, tonumber(most))
  for i = 1, #entries, 2 do
    local id = entries[i]
    local job = read(id)
    if job and fits(job, filter) then
      ids[#ids + 1] = id
      local in_doubt = job.in_doubt and job.status ~= 'accepted' and '1' or ''
      local group = job.status .. '\0' .. (job.reason or '') .. '\0' .. in_doubt
      if not groups[group] then
        groups[group] = {job.status, job.reason or '', in_doubt, 0, id, entries[i + 1]}
        order[#order + 1] = groups[group]
      end
      groups[group][4] = groups[group][4] + 1
    end
  end
  return {next_page, ids, order}
end
