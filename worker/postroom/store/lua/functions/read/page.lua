-- One page of jobs that fit a filter, newest first: {score and id of the last that was looked at, or '' at the end;
-- {ids that fit}; {how many of them are alike: status, reason, 1 if in doubt, count, the newest one's id}, …}.
-- A page begins at a place in the order, so what enters the index meanwhile moves nothing.
-- Arguments: now, index (`jobs`: all; `keys`: the one of filter.key), score and id after which it begins ('' both: the
--            newest), most that fit, most that are looked at, filter (JSON, as job_filter.py writes it)

local STEP = 200

-- All jobs are in one of these, in the order of arrival (indexes.lua).
local EVERYWHERE = {'jobs', 'status:queued', 'status:deferred', 'status:sending'}

-- As Redis orders members of one score: by their bytes.
local function stands_before(a, b)
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then return a:byte(i) < b:byte(i) end
  end
  return #a < #b
end

-- Whether a list of words in one field has this word.
local function has(field, separator, word)
  return string.find(separator .. (field or '') .. separator, separator .. word .. separator, 1, true)
end

local function fits(job, filter, senders)
  local created = tonumber(job.created)
  return not (filter.status and job.status ~= filter.status or filter.reason and job.reason ~= filter.reason
    or senders and not senders[job.sender] or filter.batch and job.batch ~= filter.batch
    or filter.key and job.key ~= filter.key
    or filter.to and not has(job.to, ' ', filter.to) or filter.tag and not has(job.tags, '\n', filter.tag)
    or filter.since and created < filter.since or filter['until'] and created >= filter['until'])
end

-- The entries of an index, newest first, down to the lowest score. `head` is the next one, nil at the end.
local function reader(name, score, lowest)
  local index, from, offset = keys.index(name), score == '' and '+inf' or score, 0
  local entries, at = {}, 1
  local self = {name = name}
  function self.go_on()
    at = at + 2
    if at > #entries and (at == 3 or #entries == 2 * STEP) then
      entries, at = redis.call('ZREVRANGEBYSCORE', index, from, lowest, 'WITHSCORES', 'LIMIT', offset, STEP), 1
      offset = offset + STEP
    end
    self.head = entries[at] and {id = entries[at], score = entries[at + 1], order = tonumber(entries[at + 1])}
  end
  function self.drop() offset = offset - redis.call('ZREM', index, self.head.id) end
  self.go_on()
  return self
end

-- The same for the one job that has a key.
local function reader_of_key(key, score)
  local id = score == '' and redis.call('HGET', keys.idempotency, key)
  local self = {name = 'keys', head = id and {id = id, score = '0', order = 0} or nil}
  function self.go_on() self.head = nil end
  function self.drop() end
  return self
end

-- The reader whose next entry is the newest.
local function newest(readers)
  local first
  for _, one in ipairs(readers) do
    local a, b = one.head, first and first.head
    if a and (not b or a.order > b.order or (a.order == b.order and stands_before(b.id, a.id))) then first = one end
  end
  return first
end

-- A job that an older worker moved may be in two of them.
local function belongs(name, job_status)
  if name == 'jobs' then return not indexes.IS_WAITING[job_status] end
  local of = string.match(name, '^status:(.*)')
  return not of or of == job_status
end

local function read(id)
  local fields = redis.call('HMGET', keys.job(id), 'status', 'reason', 'sender', 'batch', 'to', 'created', 'in_doubt',
    'key', 'tags')
  return fields[1] and {
    status = fields[1], reason = fields[2], sender = fields[3], batch = fields[4], to = fields[5], created = fields[6],
    in_doubt = fields[7], key = fields[8], tags = fields[9],
  }
end

local function set_of(list)
  if not list then return nil end
  local set = {}
  for _, name in ipairs(list) do set[name] = true end
  return set
end

-- Counts a job among those that are alike.
local function count(groups, id, job)
  local in_doubt = job.in_doubt and job.status ~= 'accepted' and '1' or ''
  local name = job.status .. '\0' .. (job.reason or '') .. '\0' .. in_doubt
  local group = groups[name]
  if not group then
    group = {job.status, job.reason or '', in_doubt, 0, id}
    groups[name] = group
    groups[#groups + 1] = group
  end
  group[4] = group[4] + 1
end

local function readers_of(index, score, filter)
  if index == 'keys' then return {reader_of_key(filter.key, score)} end
  local readers = {}
  for i, name in ipairs(index == 'jobs' and EVERYWHERE or {index}) do
    readers[i] = reader(name, score, filter.ended_since or '-inf')
  end
  return readers
end

return function(arguments)
  local _, index, score, after, most_text, looks_text, text = unpack(arguments, 1, 7)
  local filter, most, looks = cjson.decode(text), tonumber(most_text), tonumber(looks_text)
  local senders, readers, ids, groups, seen = set_of(filter.senders), readers_of(index, score, filter), {}, {}, 0
  local one = newest(readers)
  while one do
    local id, at = one.head.id, one.head.score
    if at ~= score or stands_before(id, after) then
      local job = read(id)
      if not job then
        one.drop()  -- swept by a worker that did not know this index
      elseif belongs(one.name, job.status) and fits(job, filter, senders) then
        ids[#ids + 1] = id
        count(groups, id, job)
      end
      seen = seen + 1
    end
    one.go_on()
    one = newest(readers)
    if one and (#ids >= most or seen >= looks) then return {at, id, ids, groups} end
  end
  return {'', '', ids, groups}
end
