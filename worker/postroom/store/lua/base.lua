-- What every script shares: the places of a job, names of keys, the clock, records, settings.
--
-- A job is at any time in exactly one place, and its record's `place` names it:
--   ready    in ready:<class>:<lane>        score: order of arrival; the class is the priority, or
--            `check`: to be looked up, or a draft to be removed; `again`: to be sent again after a look-up
--   later    in later:<lane>                score: when it is due
--   aside    in aside:<batch>               score: order of arrival; somebody holds the batch
--   claim    in claims:<lane> and leases    score: when the lease ends; also in unmarked:<lane> until it is marked
--   ended    in status:<status> only
-- A job that has ended and left a draft (`tidy`) goes through the first three once more, until that is removed.
-- Every script may be run again with the same arguments (a lost reply is asked for again) and changes nothing then.

local P = '{postroom}:'
local DAY, MINUTE = 86400000, 60000
local BATCH = 100
local UNPACKED = 4000  -- values of one command: Lua has room for some 8,000
-- `v` of a record: what a worker must understand to send this mail, 1 where it has none. One that needs more than FORMAT
-- is left to newer workers (`newer_version`), so it is raised, and only for such mail, when an older worker would send
-- something wrong.
-- 2: the source of a message, in a field that older workers do not know; or a mail that shares a part with others
-- (content.lua), or with a task to call at its end (calls.lua).
local FORMAT = 2

local function server_time()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- What one call works with, and what it has read: the library lives on between calls, so `begin` makes these anew.
local ARGV
local now, stamp            -- milliseconds, and as a string; an argument only in tests
local clock                 -- {now, stamp} of Redis' own
local read, read_of_lane, decoded  -- settings
local counted               -- by key: how many hands there are, and how long Celery's queues are
local states                -- of lanes and apps
local no_high               -- by lane, true where no `high` job is ready
local first_with            -- by key: the job that has it, false if none has
local passed_over           -- how many jobs claims have found that are not to be sent, such as expired ones
local together              -- {id = …, fields = …} while one move writes to a record
local gathered              -- by key, while many jobs are moved: what it will write there

local function know_nothing()
  read, read_of_lane, decoded, counted, states, no_high = {}, {}, {}, {}, {lane = {}, app = {}, held = {}}, {}
  first_with, passed_over, together, gathered = {}, 0, nil, nil
end

local function filled(text) return text ~= '' and text or nil end
local function whole(number) return string.format('%d', number) end

-- What it has read stays known to a further function of the same call: nobody else writes meanwhile.
local function begin(arguments)
  ARGV = arguments
  if ARGV[1] == '' then
    now, stamp = clock[1], clock[2]
  else
    now, stamp = tonumber(ARGV[1]), ARGV[1]
  end
end

local runs = {}  -- what the functions do, by their names
local MOVES_CLAIMS = {claim = true, mark = true, note = true, settle = true}  -- those that many are called of in one call

-- What `make` gives is run at each call.
local function register(name, flags, make)
  local run = make()
  runs[name] = run
  redis.register_function({
    function_name = LIBRARY .. name, flags = flags,
    callback = function(_, arguments)
      know_nothing()
      local time = server_time()
      clock = {time, whole(time)}
      begin(arguments)
      return run()
    end,
  })
end

local function job_key(id) return P .. 'job:' .. id end
local function mail_key(id) return P .. 'mail:' .. id end
local function files_key(name) return P .. 'files:' .. name end
local function attempts_key(id) return P .. 'attempts:' .. id end
local function mirrors_key(id) return P .. 'mirrors:' .. id end
local function of_lane(what, lane) return P .. what .. ':' .. lane end

-- In RESP 3 it comes as a table, made in C: a quarter cheaper than out of a list.
local function hash(key)
  redis.setresp(3)
  local found = redis.call('HGETALL', key).map
  redis.setresp(2)
  return found
end

-- A record that somebody wrote into by hand may lack what the moves count on.
local NUMBERS = {
  'expires', 'scheduled', 'requeued', 'attempts', 'tries', 'began', 'lost', 'resends', 'look_ups', 'v', 'changed', 'since',
  'ended', 'held_since', 'tidy',
}
local NEEDED_NUMBERS = {'seq', 'created', 'recipients'}
local PRIORITIES = {high = true, normal = true, low = true}
local PLACES = {ready = true, later = true, aside = true, claim = true, ended = true}

local bury_damaged  -- (id, job, the field) in moves.lua
local record
do  -- the shared parts together may have 200 locals
  -- An error where one of these is no number: to look at all in one go is an eighth of the work.
  local function sum_of_numbers(job)
    return job.seq + job.created + job.recipients + (job.expires or 0) + (job.scheduled or 0) + (job.requeued or 0) +
      (job.attempts or 0) + (job.tries or 0) + (job.began or 0) + (job.lost or 0) + (job.resends or 0) + (job.look_ups or 0) +
      (job.v or 0) + (job.changed or 0) + (job.since or 0) + (job.ended or 0) + (job.held_since or 0) + (job.tidy or 0)
  end

  local function bad_number(job)
    for _, name in ipairs(NEEDED_NUMBERS) do if not tonumber(job[name]) then return name end end
    for _, name in ipairs(NUMBERS) do if job[name] and not tonumber(job[name]) then return name end end
  end

  -- The name of a field that makes a record useless.
  local function damage(job)
    local name = not pcall(sum_of_numbers, job) and bad_number(job)
    if name then return name end
    if not PRIORITIES[job.priority] then return 'priority' end
    if not PLACES[job.place] then return 'place' end
    return job.place ~= 'ended' and not job.lane and 'lane' or nil  -- what was no mail has perhaps none
  end

  -- The record of a job; nil where there is none, or none that can be used.
  record = function(id)
    local found = hash(job_key(id))
    if not next(found) then return nil end
    local field = damage(found)
    if not field then return found end
    bury_damaged(id, found, field)
  end
end

local scratch = {}  -- kept, for to make it grow each time takes as long as to fill it

local function write(id, fields)
  local set, gone, n = scratch, nil, 0
  for name, value in pairs(fields) do
    if value == '' then
      gone = gone or {}
      gone[#gone + 1] = name
    else
      set[n + 1] = name  -- one after the other: Lua would begin with the last, out of the array
      set[n + 2] = value
      n = n + 2
    end
  end
  if n > 0 then redis.call('HSET', job_key(id), unpack(set, 1, n)) end
  if gone then redis.call('HDEL', job_key(id), unpack(gone)) end
end

-- Writes fields of a record; an empty one is taken out, so a field that is there says something.
local function update(id, job, fields)
  local changed = together and together.id == id and together.fields or {}
  for name, value in pairs(fields) do
    if value == '' then
      if job[name] then job[name], changed[name] = nil, '' end
    else
      if type(value) == 'number' then value = value == now and stamp or whole(value) end
      if job[name] ~= value then job[name], changed[name] = value, value end
    end
  end
  if not together or together.id ~= id then write(id, changed) end
end

-- What `move` changes of this record goes to Redis at once, when it is over; it must not read that record there.
local function changing(id, move)
  together = {id = id, fields = {}}
  move()
  local fields = together.fields
  together = nil
  write(id, fields)
end

-- A new record, and what `make` does with it, goes to Redis at once.
local function creating(id, job, make, ...)
  together = {id = id, fields = {}}
  make(id, job, ...)
  together = nil
  write(id, job)
end

-- Indexes that no move reads: the status of jobs, and leases. While many jobs are moved, all that one index gets is
-- gathered.

local function gather(key, name, value)
  local into = gathered[key]
  if not into then
    into = {names = {}, values = {}}
    gathered[key] = into
  end
  local values, names = into.values, into.names
  if values[name] == nil then names[#names + 1] = name end
  values[name] = value
end

local function put_score(key, score, id)
  if gathered then return gather(key, id, score) end
  redis.call('ZADD', key, score, id)
end

local function take_out(key, id)
  if gathered then return gather(key, id, false) end
  redis.call('ZREM', key, id)
end

local function put_ready(class, lane, score, id)
  if class == 'high' then no_high[lane] = nil end
  redis.call('ZADD', of_lane('ready:' .. class, lane), score, id)
end

local function call_in_parts(command, key, values, count)
  for first = 1, count, UNPACKED do
    redis.call(command, key, unpack(values, first, math.min(first + UNPACKED - 1, count)))
  end
end

local function write_gathered(goes_on)
  local found = gathered or {}
  gathered = goes_on and {} or nil
  for key, into in pairs(found) do
    local names, values, set, gone, n = into.names, into.values, scratch, nil, 0
    for i = 1, #names do
      local name, value = names[i], values[names[i]]
      if value then
        set[n + 1] = value
        set[n + 2] = name
        n = n + 2
      else
        gone = gone or {}
        gone[#gone + 1] = name
      end
    end
    call_in_parts('ZADD', key, set, n)
    if gone then call_in_parts('ZREM', key, gone, #gone) end
  end
end

-- What the workers published of their settings: `lane:<lane>`, `alias:<address>`, `*` and single values.

local function setting(name)
  if read[name] == nil then read[name] = redis.call('HGET', P .. 'config', name) end
  return read[name] or nil
end

-- The same for many, which are asked for at once.
local function read_settings(names)
  if #names == 0 then return end
  for i, value in ipairs(redis.call('HMGET', P .. 'config', unpack(names))) do read[names[i]] = value end
end

local function lane_of_sender(sender) return setting('alias:' .. sender) or sender end

local function lane_settings(lane)
  if not read_of_lane[lane] then
    -- most lanes are a sender's own, who is asked for soon: at once costs no more
    if read['lane:' .. lane] == nil then read_settings({'lane:' .. lane, 'alias:' .. lane}) end
    local found = setting('lane:' .. lane) or setting('*')
    if found and not decoded[found] then decoded[found] = cjson.decode(found) end  -- most lanes have the same
    read_of_lane[lane] = decoded[found] or {app = 'default', parallel = 4, daily = 10000, rates = {{30, MINUTE}}}
  end
  return read_of_lane[lane]
end
