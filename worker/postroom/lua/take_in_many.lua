-- Takes many jobs in: for each, in this order, what take_in.lua says of one, or {'bring'}: what it shares with others is
-- not here, or no longer, so call again and bring that.
-- ARGV: now, SHA-256 of what they share ('' if nothing), that as JSON ('' if it is not brought), the name of its files ('' if
--       none), how many parts they are; then each mail as in given.lua, without what it shares.
local digest, common, files, parts = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local all, firsts = {}, {}

-- Reads the mails; says whether one of these jobs is here already, and who has their keys.
local function look()
  local jobs, keys = {}, {}
  for n = 6, #ARGV, GIVEN do
    local given = given_at(n)
    all[#all + 1], jobs[#jobs + 1] = given, job_key(given.id)
    if given.key ~= '' then keys[#keys + 1] = given.key end
  end
  look_up(keys)
  return #jobs > 0 and redis.call('EXISTS', unpack(jobs)) > 0
end

-- Those of one lane and priority stand behind the first of them.
local function note_first(id, job)
  local class = job.place .. ' ' .. job.priority .. ' ' .. job.lane
  if not firsts[class] then firsts[class] = {id = id, job = job} end
end

local function plan_lanes()
  local lanes = {}
  for _, first in pairs(firsts) do
    if needs_plan(first.id, first.job) then lanes[first.job.lane] = true end
  end
  for lane in pairs(lanes) do plan(lane, lane_settings(lane)) end
end

local some_are_here = look()
jobs_to_come = #all

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

local function take_in(given)
  if some_are_here and redis.call('EXISTS', job_key(given.id)) == 1 then return {'new', given.id} end
  local no = why_not(given)
  if no then return no end
  local number, lacking
  if digest ~= '' then number, lacking = share() end
  if lacking then return {lacking} end
  note_first(given.id, line_up_given(given, {shared = number}))
  return {'new', given.id}
end

-- Others may have brought it first, or nobody needed it.
local function drop_what_was_not_used()
  local number = redis.call('HGET', P .. 'shares', digest)
  if not number or redis.call('HGET', shared_key(number), 'files') ~= files then drop_files(files) end
end

local said = {}
taking_in(function()
  for _, given in ipairs(all) do said[#said + 1] = take_in(given) end
end)
if files ~= '' then drop_what_was_not_used() end
plan_lanes()
return said
