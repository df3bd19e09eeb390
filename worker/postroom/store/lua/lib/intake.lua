-- A new job: its record, its indexes and its first place.
--
-- Many may come in one call. So `start` says how many, new entries of indexes are collected, and `write_indexes` writes
-- them.

local M = {}

local ROUNDS = 2  -- on their way: one may be with a worker that dies

function M.start(count)
  call.intake = {count = count, last_seq = 0, next_seq = 1, entries = {}}
end

-- The numbers of all jobs are taken at once.
local function next_number()
  local numbers = call.intake
  if numbers.next_seq > numbers.last_seq then
    numbers.last_seq = redis.call('INCRBY', keys.seq, numbers.count)
    numbers.next_seq = numbers.last_seq - numbers.count + 1
  end
  numbers.next_seq = numbers.next_seq + 1
  return values.integer(numbers.next_seq - 1)
end

-- No job is in that index before.
local function add(command, index, first, second)
  local entries = call.intake.entries
  local list = entries[index]
  if not list then
    list = {command = command, n = 0}
    entries[index] = list
  end
  local n = list.n
  list[n + 1], list[n + 2], list.n = first, second, n + 2
end

function M.write_indexes()
  for index, list in pairs(call.intake.entries) do redis.call(list.command, index, unpack(list, 1, list.n)) end
end

local function index_recipients(id, job)
  if not job.to then return end
  if #job.to == constants.RECIPIENT_TOKEN_LENGTH then
    return redis.call('ZADD', keys.recipient(job.to), job.seq, id)
  end
  for token in string.gmatch(job.to, '%S+') do redis.call('ZADD', keys.recipient(token), job.seq, id) end
end

-- `job` has the fields that its record is to have. To be called inside `record.create`, and before `write_indexes`.
function M.add_job(id, job, mail)
  job.created, job.seq = call.stamp, next_number()
  if job.shared or job.on_accepted or job.on_dead then
    job.v = math.max(tonumber(job.v or 1), constants.FORMAT_OF_SHARED_OR_CALLBACKS)
  end
  if job.shared then
    add('HSET', keys.shared(job.shared), id, mail)
  else
    redis.call('SET', keys.mail(id), mail)
  end
  if job.key then add('HSET', keys.idempotency, job.key, id) end
  if job.batch then add('ZADD', keys.batch(job.batch), job.seq, id) end
  if job.expires then add('ZADD', keys.expiring, job.expires, id) end
  index_recipients(id, job)
end

-- The first place of a job; `due` is when it may leave, if that is later.
function M.enqueue(id, job, due)
  if due and due > call.now then
    record.update(id, job, {scheduled = due})
    transitions.to_later(id, job, due)
    status.set(id, job, 'deferred', 'scheduled')
  elseif person_holds.name_for(job) then
    transitions.to_aside(id, job)
    status.set(id, job, 'queued')
  else  -- as `to_ready` and `status.set` do, but collected, for many may come
    job.place, job.status = 'ready', 'queued'
    add('ZADD', keys.ready(job.priority, job.lane), job.seq, id)
    add('ZADD', keys.status('queued'), job.seq, id)
  end
end

function M.add_and_enqueue(id, job, mail, due)
  M.add_job(id, job, mail)
  if job.key then call.job_of_key[job.key] = id end
  M.enqueue(id, job, due)
end

local function needs_plan(id, job, wake_up, waits)
  if job.place ~= 'ready' or not wake_up then return true end
  if waits and job.priority ~= 'high' then return false end
  local ahead = redis.call('ZRANK', keys.ready(job.priority, job.lane), id)
  if ahead > config.limits(job.lane).parallel then return false end
  local count, _, lost_at = dispatch.outstanding(job.lane)
  -- the lane may sleep meanwhile, until something else of it is due
  return job.priority == 'high' or count < ROUNDS or tonumber(wake_up) > lost_at
end

-- Plans the lanes of jobs that came just now, each the first of its lane and priority, where that changes anything. It
-- does not where the lane waits for its turn, or its rounds are on their way (they plan it, and its wake-up does if
-- they are lost); nor where more jobs stand before this one than the lane may send at once.
function M.plan_for(firsts)
  local lanes, is_planned = {}, {}
  for i, first in ipairs(firsts) do lanes[i] = first.job.lane end
  local wake_ups = redis.call('ZMSCORE', keys.lanes, unpack(lanes))
  local turns = redis.call('ZMSCORE', keys.waiting, unpack(lanes))
  for i, first in ipairs(firsts) do
    local lane = lanes[i]
    if not is_planned[lane] and needs_plan(first.id, first.job, wake_ups[i], turns[i]) then
      is_planned[lane] = true
      dispatch.plan_lane(lane)
    end
  end
end

return M
