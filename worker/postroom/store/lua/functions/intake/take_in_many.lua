-- Takes many jobs in: for each, in this order, what take_in.lua answers for one, or {'bring'}: what it shares with
-- others is not here, or no longer, so call again and bring that.
-- Arguments: now, their batch, `on_accepted` and `on_dead` of each of them, SHA-256 of what they share, that as JSON
--            (if it is brought), the name of its files, how many parts these have; then each mail as in
--            mail_arguments.lua, without what it shares. What there is not is ''.

local FIRST = 9

-- Reads at once what all of them need: senders, lanes and keys. Returns whether one of these jobs is here already.
local function read_ahead(arguments)
  local jobs, names, senders = {}, {}, {}
  for n = FIRST, #arguments, mail_arguments.COUNT do
    jobs[#jobs + 1], senders[arguments[n + mail_arguments.SENDER]] = keys.job(arguments[n]), true
    names[#names + 1] = values.non_empty(arguments[n + mail_arguments.KEY])
  end
  intake.start(#jobs)
  admission.look_up(names)
  mail_arguments.read_settings(senders)
  return #jobs > 0 and redis.call('EXISTS', unpack(jobs)) > 0
end

-- The number of the shared part, or nil and why there is none.
local function number_of_shared(shared)
  local number = redis.call('HGET', keys.shares, shared.digest)
  if number then return number end
  if shared.common == '' then return nil, 'bring' end
  if redis.call('HLEN', keys.files(shared.files)) ~= shared.parts then return nil, 'unstaged' end
  redis.call('ZREM', keys.staged, shared.files)
  number = values.integer(redis.call('INCR', keys.seq))
  redis.call('HSET', keys.shares, shared.digest, number)
  redis.call('HSET', keys.shared(number), 'mail', shared.common, 'files', shared.files, 'digest', shared.digest)
  return number
end

-- Others may have brought them first, or nobody needed them.
local function drop_unused_files(shared)
  local number = redis.call('HGET', keys.shares, shared.digest)
  local are_used = number and redis.call('HGET', keys.shared(number), 'files') == shared.files
  if not are_used then content.drop_files(shared.files) end
end

-- Jobs of one lane and priority stand behind the first of them, so only the first may need a round.
local function note_first(firsts, id, job)
  local class = job.place .. job.priority .. job.lane
  if firsts[class] then return end
  firsts[class] = true
  firsts[#firsts + 1] = {id = id, job = job}
end

return function(arguments)
  local batch = values.non_empty(arguments[2])
  local on_accepted, on_dead = values.non_empty(arguments[3]), values.non_empty(arguments[4])
  local shared = {digest = arguments[5], common = arguments[6], files = arguments[7], parts = tonumber(arguments[8])}
  local firsts, answers = {}, {}
  local some_are_here = read_ahead(arguments)

  local function take_in(n)
    local id, job, mail, size, due = mail_arguments.decode(arguments, n, batch)
    if some_are_here and redis.call('EXISTS', keys.job(id)) == 1 then return 'new' end
    local refusal = admission.refusal_of_job(job, size)
    if refusal then return refusal end
    if shared.digest ~= '' then
      local number, lacking = number_of_shared(shared)
      if lacking then return {lacking} end
      job.shared = number
    end
    job.on_accepted, job.on_dead = on_accepted, on_dead
    record.create(id, job, intake.add_and_enqueue, mail, due)
    note_first(firsts, id, job)
    return 'new'
  end

  -- If a fault ends it, the jobs before that one are complete.
  local is_well, fault = pcall(function()
    for n = FIRST, #arguments, mail_arguments.COUNT do answers[#answers + 1] = take_in(n) end
  end)
  intake.write_indexes()
  if not is_well then error(fault, 0) end
  if shared.files ~= '' then drop_unused_files(shared) end
  if #firsts > 0 then intake.plan_for(firsts) end
  return answers
end
