-- One page of an index of jobs, newest first: {score and id of the last that was looked at, or '' at the end; {ids that
-- fit}}. A page begins at a place in the order, so what enters the index meanwhile moves nothing.
-- Arguments: now, index (`jobs`: all), score and id after which it begins ('' both: the newest), most that fit, most
--            that are looked at, filter (JSON: status, batch, reason, to, senders, since, till)

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

local function fits(job, filter, senders)
  local created = tonumber(job.created)
  return not (filter.status and job.status ~= filter.status or filter.reason and job.reason ~= filter.reason
    or senders and not senders[job.sender] or filter.batch and job.batch ~= filter.batch
    or filter.to and not string.find(' ' .. (job.to or '') .. ' ', ' ' .. filter.to .. ' ', 1, true)
    or filter.since and created < filter.since or filter.till and created >= filter.till)
end

-- The entries of an index, newest first. `head` is the next one, nil at the end.
local function reader(name, score)
  local index, from, offset = keys.index(name), score == '' and '+inf' or score, 0
  local entries, at = {}, 1
  local self = {name = name}
  function self.go_on()
    at = at + 2
    if at > #entries and (at == 3 or #entries == 2 * STEP) then
      entries, at = redis.call('ZREVRANGEBYSCORE', index, from, '-inf', 'WITHSCORES', 'LIMIT', offset, STEP), 1
      offset = offset + STEP
    end
    self.head = entries[at] and {id = entries[at], score = entries[at + 1], order = tonumber(entries[at + 1])}
  end
  function self.drop() offset = offset - redis.call('ZREM', index, self.head.id) end
  self.go_on()
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
  local fields = redis.call('HMGET', keys.job(id), 'status', 'reason', 'sender', 'batch', 'to', 'created')
  return fields[1] and {
    status = fields[1], reason = fields[2], sender = fields[3], batch = fields[4], to = fields[5], created = fields[6],
  }
end

local function set_of(list)
  if not list then return nil end
  local set = {}
  for _, name in ipairs(list) do set[name] = true end
  return set
end

return function(arguments)
  local _, index, score, after, most_text, looks_text, text = unpack(arguments, 1, 7)
  local filter, most, looks = cjson.decode(text), tonumber(most_text), tonumber(looks_text)
  local senders, readers, ids, seen = set_of(filter.senders), {}, {}, 0
  for i, name in ipairs(index == 'jobs' and EVERYWHERE or {index}) do readers[i] = reader(name, score) end
  local one = newest(readers)
  while one do
    local id, at = one.head.id, one.head.score
    if at ~= score or stands_before(id, after) then
      local job = read(id)
      if not job then
        one.drop()  -- swept by a worker that did not know this index
      elseif belongs(one.name, job.status) and fits(job, filter, senders) then
        ids[#ids + 1] = id
      end
      seen = seen + 1
    end
    one.go_on()
    one = newest(readers)
    if one and (#ids >= most or seen >= looks) then return {at, id, ids} end
  end
  return {'', '', ids}
end
