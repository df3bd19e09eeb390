-- A part of take_in.lua, take_in_many.lua and replace.lua: a new job's record with its indexes, and its first place.

-- The version of what an older worker cannot send, or would end without a word to its producer.
local SHARED_OR_CALLS = 2
local TOKEN = 16  -- characters of a recipient in the index
local ROUNDS = 2  -- one may be with a worker that dies
local KEYS, QUEUED = P .. 'keys', P .. 'status:queued'

local jobs_to_come            -- they take their numbers at once
local last_seq, next_seq
local added                   -- by index: what new jobs put there, to be written by `add_all`

-- To be called before the first `new_job`.
local function expect(count)
  jobs_to_come, last_seq, next_seq, added = count, 0, 1, {}
end

local function next_number()
  if next_seq > last_seq then
    last_seq = redis.call('INCRBY', P .. 'seq', jobs_to_come)
    next_seq = last_seq - jobs_to_come + 1
  end
  next_seq = next_seq + 1
  return whole(next_seq - 1)
end

-- No job is in that index before.
local function add(command, index, first, second)
  local list = added[index]
  if not list then
    list = {command = command, n = 0}
    added[index] = list
  end
  local n = list.n
  list[n + 1], list[n + 2], list.n = first, second, n + 2
end

local function add_all()
  for index, list in pairs(added) do redis.call(list.command, index, unpack(list, 1, list.n)) end
end

local function index_recipients(id, job)
  if not job.to then return end
  if #job.to == TOKEN then return redis.call('ZADD', P .. 'to:' .. job.to, job.seq, id) end
  for token in string.gmatch(job.to, '%S+') do redis.call('ZADD', P .. 'to:' .. token, job.seq, id) end
end

-- `job` has the fields that its record is to have; it is to be called while `creating`, and before `add_all`.
local function new_job(id, job, mail)
  job.created, job.seq = stamp, next_number()
  if job.shared or job.on_accepted or job.on_dead then job.v = math.max(tonumber(job.v or 1), SHARED_OR_CALLS) end
  if job.shared then
    add('HSET', shared_key(job.shared), id, mail)
  else
    redis.call('SET', mail_key(id), mail)
  end
  if job.key then add('HSET', KEYS, job.key, id) end
  if job.batch then add('ZADD', P .. 'batch:' .. job.batch, job.seq, id) end
  if job.expires then add('ZADD', P .. 'expiring', job.expires, id) end
  index_recipients(id, job)
end

local function line_up(id, job, due)
  if due and due > now then
    update(id, job, {scheduled = due})
    to_later(id, job, due)
    set_status(id, job, 'deferred', 'scheduled')
  elseif stands_aside(job.batch) then
    to_aside(id, job)
    set_status(id, job, 'queued')
  else  -- as to_ready and set_status, for many may come
    job.place, job.status = 'ready', 'queued'
    add('ZADD', ready_key(job.priority, job.lane), job.seq, id)
    add('ZADD', QUEUED, job.seq, id)
  end
end

-- Plans the lanes of jobs that came just now, each the first of its lane and priority, where that changes anything: not
-- where the lane waits for its turn, or rounds of it are on their way, for that plans it, and its wake-up does where they
-- are lost; nor where more stand before the job than the lane may send at once.
local function plan_for(firsts)
  local lanes, planned = {}, {}
  for i, first in ipairs(firsts) do lanes[i] = first.job.lane end
  local wake_ups = redis.call('ZMSCORE', P .. 'lanes', unpack(lanes))
  local turns = redis.call('ZMSCORE', P .. 'waiting', unpack(lanes))

  local function is_needed(id, job, wake_up, waits)
    if job.place ~= 'ready' or not wake_up then return true end
    if waits and job.priority ~= 'high' then return false end
    local ahead = redis.call('ZRANK', ready_key(job.priority, job.lane), id)
    if ahead > lane_settings(job.lane).parallel then return false end
    local count, _, lost_at = outstanding(job.lane)
    -- it may have been laid down meanwhile, until something else of it is due
    return job.priority == 'high' or count < ROUNDS or tonumber(wake_up) > lost_at
  end

  for i, first in ipairs(firsts) do
    local lane = lanes[i]
    if not planned[lane] and is_needed(first.id, first.job, wake_ups[i], turns[i]) then
      planned[lane] = true
      plan(lane, lane_settings(lane))
    end
  end
end
