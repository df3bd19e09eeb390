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
-- `v` of a record: what a worker must understand to send this mail. One that needs more than FORMAT is left to newer
-- workers (`newer_version`), so it is raised, and only for such mail, when an older worker would send something wrong.
-- 2: the source of a message, in a field that older workers do not know; or a mail that shares a part with others
-- (content.lua), or with a task to call at its end (calls.lua).
local FORMAT = 2

local function server_time()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- What one call works with, and what it has read: the library lives on between calls, so `begin` makes these anew.
local ARGV
local now                   -- milliseconds; an argument only in tests
local clock                 -- Redis' own
local read, read_of_lane, decoded  -- settings
local counted               -- by key: how many hands there are, and how long Celery's queues are
local states                -- of lanes and apps
local together              -- {id = …, fields = …} while one move writes to a record
local gathered              -- by key, while many jobs are taken in: a command and what it will write there

local function know_nothing()
  read, read_of_lane, decoded, counted, states, together, gathered = {}, {}, {}, {}, {}, nil, nil
end

-- What it has read stays known to a further function of the same call: nobody else writes meanwhile.
local function begin(arguments)
  ARGV = arguments
  now = tonumber(ARGV[1]) or clock
end

local runs = {}  -- what the functions do, by their names

local function register(name, flags, run)
  runs[name] = run
  redis.register_function({
    function_name = LIBRARY .. name, flags = flags,
    callback = function(_, arguments)
      know_nothing()
      clock = server_time()
      begin(arguments)
      return run()
    end,
  })
end

local function whole(number) return string.format('%d', number) end

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

-- Whether its numbers are nothing but digits, as nearly all are: to look at them together is a third of the work.
local function is_all_digits(job)
  local numbers = {}
  for i = 1, #NEEDED_NUMBERS do
    numbers[i] = job[NEEDED_NUMBERS[i]]
    if not numbers[i] or numbers[i] == '' then return false end
  end
  for i = 1, #NUMBERS do
    local number = job[NUMBERS[i]]
    if number == '' then return false end
    numbers[#numbers + 1] = number
  end
  return not string.find(table.concat(numbers), '%D')
end

local function bad_number(job)
  for _, name in ipairs(NEEDED_NUMBERS) do if not tonumber(job[name]) then return name end end
  for _, name in ipairs(NUMBERS) do if job[name] and not tonumber(job[name]) then return name end end
end

-- The name of a field that makes a record useless.
local function damage(job)
  local name = not is_all_digits(job) and bad_number(job)
  if name then return name end
  if not PRIORITIES[job.priority] then return 'priority' end
  if not PLACES[job.place] then return 'place' end
  return job.place ~= 'ended' and not job.lane and 'lane' or nil  -- what was no mail has perhaps none
end

local bury_damaged  -- (id, job, the field) in moves.lua

-- The record of a job; nil where there is none, or none that can be used.
local function record(id)
  local found = hash(job_key(id))
  if not next(found) then return nil end
  local field = damage(found)
  if not field then return found end
  bury_damaged(id, found, field)
end

local function write(id, fields)
  local set, gone, n = {}, {}, 0
  for name, value in pairs(fields) do
    if value == '' then
      gone[#gone + 1] = name
    else
      set[n + 1], set[n + 2] = name, value
      n = n + 2
    end
  end
  if n > 0 then redis.call('HSET', job_key(id), unpack(set)) end
  if #gone > 0 then redis.call('HDEL', job_key(id), unpack(gone)) end
end

-- Writes fields of a record; an empty one is taken out, so a field that is there says something.
local function update(id, job, fields)
  local changed = together and together.id == id and together.fields or {}
  for name, value in pairs(fields) do
    local text = tostring(value)
    if value ~= '' and job[name] ~= text then
      job[name] = text
      changed[name] = text
    elseif value == '' and job[name] then
      job[name] = nil
      changed[name] = ''
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

-- A new record as `make` returns it, and what else that does to it, goes to Redis at once.
local function creating(id, make)
  together = {id = id, fields = {}}
  local job = make()
  together = nil
  write(id, job)
  return job
end

-- Writes a pair into an index. While many jobs are taken in, all that one index gets is gathered.
local function put(command, key, first, second)
  if not gathered then return redis.call(command, key, first, second) end
  local into = gathered[key] or {command}
  into[#into + 1], into[#into + 2] = first, second
  gathered[key] = into
end

-- What `move` puts into indexes goes to Redis when it is over, even by a fault, for the jobs before that are whole; it
-- must not read them.
local function gathering(move)
  gathered = {}
  local is_well, fault = pcall(move)
  local found = gathered
  gathered = nil
  for key, into in pairs(found) do redis.call(into[1], key, unpack(into, 2)) end
  if not is_well then error(fault, 0) end
end

-- What the workers published of their settings: `lane:<lane>`, `alias:<address>`, `*` and single values.

local function setting(name)
  if read[name] == nil then read[name] = redis.call('HGET', P .. 'config', name) end
  return read[name] or nil
end

local function lane_settings(lane)
  if not read_of_lane[lane] then
    local found = redis.call('HMGET', P .. 'config', 'lane:' .. lane, '*')
    found = found[1] or found[2]
    if found and not decoded[found] then decoded[found] = cjson.decode(found) end  -- most lanes have the same
    read_of_lane[lane] = decoded[found] or {app = 'default', parallel = 4, daily = 10000, rates = {{30, MINUTE}}}
  end
  return read_of_lane[lane]
end
