-- Takes many jobs in: for each, in this order, what take_in.lua says of one, or {'bring'}: what it shares with others is
-- not here, or no longer, so call again and bring that.
-- ARGV: now, their batch, SHA-256 of what they share, that as JSON (if it is brought), the name of its files, how many parts
--       they are; then each mail as in given.lua, without what it shares. What there is not is ''.
local batch, digest, common, files, parts = filled(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local FIRST = 7
local firsts, seen = {}, {}

-- What all of them need to know, each asked for at once: senders, lanes and keys. Says whether one of these jobs is here
-- already.
local function look()
  local jobs, keys, senders = {}, {}, {}
  for n = FIRST, #ARGV, GIVEN do
    jobs[#jobs + 1], senders[ARGV[n + SENDER]] = job_key(ARGV[n]), true
    keys[#keys + 1] = filled(ARGV[n + KEY])
  end
  expect(#jobs)
  look_up(keys)
  know_senders(senders)
  return #jobs > 0 and redis.call('EXISTS', unpack(jobs)) > 0
end

-- Those of one lane and priority stand behind the first of them.
local function note_first(id, job)
  local class = job.place .. job.priority .. job.lane
  if not seen[class] then
    seen[class] = true
    firsts[#firsts + 1] = {id = id, job = job}
  end
end

-- The number of the shared part, or why there is none.
local function share()
  local number = redis.call('HGET', P .. 'shares', digest)
  if number then return number end
  if common == '' then return nil, 'bring' end
  if redis.call('HLEN', files_key(files)) ~= parts then return nil, 'unstaged' end
  redis.call('ZREM', P .. 'staged', files)
  number = whole(redis.call('INCR', P .. 'seq'))
  redis.call('HSET', P .. 'shares', digest, number)
  redis.call('HSET', shared_key(number), 'mail', common, 'files', files, 'digest', digest)
  return number
end

local some_are_here = look()

local function take_in(n)
  local id, job, mail, size, due = given_at(n, batch)
  if some_are_here and redis.call('EXISTS', job_key(id)) == 1 then return 'new' end
  local no = why_not(job, size)
  if no then return no end
  if digest ~= '' then
    local number, lacking = share()
    if lacking then return {lacking} end
    job.shared = number
  end
  creating(id, job, begin_job, mail, due)
  note_first(id, job)
  return 'new'
end

-- Others may have brought it first, or nobody needed it.
local function drop_what_was_not_used()
  local number = redis.call('HGET', P .. 'shares', digest)
  if not number or redis.call('HGET', shared_key(number), 'files') ~= files then drop_files(files) end
end

local said = {}
-- Even where a fault ends it, the jobs before that are whole.
local is_well, fault = pcall(function()
  for n = FIRST, #ARGV, GIVEN do said[#said + 1] = take_in(n) end
end)
add_all()
if not is_well then error(fault, 0) end
if files ~= '' then drop_what_was_not_used() end
if #firsts > 0 then plan_for(firsts) end
return said
