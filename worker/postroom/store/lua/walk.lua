-- One page of an index of jobs, newest first: {where the next page begins or '', {ids that fit}, {how many of them are
-- what: status, reason, 1 if in doubt, count, the newest one's id and score, …}}.
-- ARGV: now, index, where the page begins or '' (the newest), since (ms, or '-inf'), most, filter (JSON of fields)
local index, before, since, most = P .. ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local wanted = cjson.decode(ARGV[6])

-- A page ends between two scores, never within one, so a score is all that a walk has to remember. How many can share
-- one is bounded by what Redis does in a millisecond.
local function page()
  local found = redis.call('ZREVRANGEBYSCORE', index, before == '' and '+inf' or before, since, 'WITHSCORES', 'LIMIT', 0, most)
  if #found < 2 * most then return found, '' end
  local last = found[#found]
  while #found > 0 and found[#found] == last do
    table.remove(found)
    table.remove(found)
  end
  local ties = redis.call('ZREVRANGEBYSCORE', index, last, last, 'WITHSCORES')
  for i = 1, #ties do found[#found + 1] = ties[i] end
  return found, '(' .. last
end

local function fits(job)
  return not (wanted.reason and job[2] ~= wanted.reason or wanted.sender and job[4] ~= wanted.sender
    or wanted.batch and job[5] ~= wanted.batch)
end

local found, following = page()
local ids, groups, order = {}, {}, {}
for i = 1, #found, 2 do
  local id = found[i]
  local job = redis.call('HMGET', job_key(id), 'status', 'reason', 'in_doubt', 'sender', 'batch')
  if job[1] and fits(job) then
    ids[#ids + 1] = id
    local in_doubt = job[3] and job[1] ~= 'accepted' and '1' or ''
    local what = job[1] .. '\0' .. (job[2] or '') .. '\0' .. in_doubt
    if not groups[what] then
      groups[what] = {job[1], job[2] or '', in_doubt, 0, id, found[i + 1]}
      order[#order + 1] = groups[what]
    end
    groups[what][4] = groups[what][4] + 1
  end
end
return {following, ids, order}
