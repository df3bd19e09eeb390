-- One page of an index of jobs, newest first: {score and id of the last that was looked at, or '' at the end; {ids that
-- fit}}. Where a page begins is a place in the order, so what enters the index meanwhile moves nothing.
-- ARGV: now, index (`jobs`: all), score and id after which it begins ('' both: the newest), most that fit, most that
--       are looked at, filter (JSON: status, batch, reason, to, senders, since, till)
local score, after, most, looks = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local wanted = cjson.decode(ARGV[7])
local STEP = 200

-- As Redis orders those of one score: by their bytes.
local function stands_before(a, b)
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then return a:byte(i) < b:byte(i) end
  end
  return #a < #b
end

local senders = wanted.senders and {}
for _, sender in ipairs(wanted.senders or {}) do senders[sender] = true end

local function fits(job)
  local created = tonumber(job[6])
  return not (wanted.status and job[1] ~= wanted.status or wanted.reason and job[2] ~= wanted.reason
    or senders and not senders[job[3]] or wanted.batch and job[4] ~= wanted.batch
    or wanted.to and not string.find(' ' .. (job[5] or '') .. ' ', ' ' .. wanted.to .. ' ', 1, true)
    or wanted.since and created < wanted.since or wanted.till and created >= wanted.till)
end

-- The entries of an index, newest first. `head` is the next one, nil at the end.
local function reader(name)
  local index, from, offset = P .. name, score == '' and '+inf' or score, 0
  local found, at = {}, 1
  local self = {name = name}
  function self.go_on()
    at = at + 2
    if at > #found and (at == 3 or #found == 2 * STEP) then
      found, at = redis.call('ZREVRANGEBYSCORE', index, from, '-inf', 'WITHSCORES', 'LIMIT', offset, STEP), 1
      offset = offset + STEP
    end
    self.head = found[at] and {id = found[at], score = found[at + 1], order = tonumber(found[at + 1])}
  end
  function self.drop() offset = offset - redis.call('ZREM', index, self.head.id) end
  self.go_on()
  return self
end

-- All jobs are in one of these, in the order of arrival (status.lua).
local EVERYWHERE = {'jobs', 'status:queued', 'status:deferred', 'status:sending'}
local readers = {}
for i, name in ipairs(ARGV[2] == 'jobs' and EVERYWHERE or {ARGV[2]}) do readers[i] = reader(name) end

-- The one whose next entry is the newest.
local function newest()
  local first
  for _, one in ipairs(readers) do
    local a, b = one.head, first and first.head
    if a and (not b or a.order > b.order or (a.order == b.order and stands_before(b.id, a.id))) then first = one end
  end
  return first
end

-- A job that an older worker moved may be in two of them.
local function belongs(name, status)
  if name == 'jobs' then return not WAITING[status] end
  local of = string.match(name, '^status:(.*)')
  return not of or of == status
end

local ids, seen = {}, 0
local one = newest()
while one do
  local id, at = one.head.id, one.head.score
  if at ~= score or stands_before(id, after) then
    local job = redis.call('HMGET', job_key(id), 'status', 'reason', 'sender', 'batch', 'to', 'created')
    if not job[1] then
      one.drop()  -- swept by a worker that did not know this index
    elseif belongs(one.name, job[1]) and fits(job) then
      ids[#ids + 1] = id
    end
    seen = seen + 1
  end
  one.go_on()
  one = newest()
  if one and (#ids >= most or seen >= looks) then return {at, id, ids} end
end
return {'', '', ids}
