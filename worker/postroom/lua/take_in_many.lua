-- Takes many jobs in: for each, in this order, what take_in.lua says of one, or {'bring'}: what it shares with others is
-- not here, or no longer, so call again and bring that.
-- ARGV: now, SHA-256 of what they share ('' if nothing), that as JSON ('' if it is not brought), the name of its files ('' if
--       none), how many parts they are; then each mail as in given.lua, without what it shares.
local digest, common, files, parts = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local looked_at, to_plan = {}, {}

-- Those of one lane and priority stand behind the first of them.
local function look_at(job)
  local class = job.place .. ' ' .. job.priority .. ' ' .. job.lane
  if not looked_at[class] and needs_plan(job) then to_plan[job.lane] = true end
  looked_at[class] = true
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

local function take_in(given)
  if redis.call('EXISTS', job_key(given.id)) == 1 then return {'new', given.id} end
  local no = why_not(given)
  if no then return no end
  local number, lacking
  if digest ~= '' then number, lacking = share() end
  if lacking then return {lacking} end
  look_at(line_up_given(given, {shared = number}))
  return {'new', given.id}
end

-- Others may have brought it first, or nobody needed it.
local function drop_what_was_not_used()
  local number = redis.call('HGET', P .. 'shares', digest)
  if not number or redis.call('HGET', shared_key(number), 'files') ~= files then drop_files(files) end
end

local said = {}
for first = 6, #ARGV, #GIVEN do said[#said + 1] = take_in(given_at(first)) end
if files ~= '' then drop_what_was_not_used() end
for lane in pairs(to_plan) do plan(lane, lane_settings(lane)) end
return said
