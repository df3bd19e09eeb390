-- The state of one call, and what it has read so far. Every other module keeps nothing between calls.
--
-- The library lives on between calls, so `call.start` makes all of this anew.
--
--   now, stamp      the time in milliseconds, as a number and as a string; Redis' own clock except in tests
--   arguments       the arguments of the function, the time first
--   settings        values of `config`, by name; false where there is none
--   lane_limits     the limits of lanes, by lane
--   decoded         limits by their JSON, for most lanes have the same
--   lengths         by key: the lengths of Celery's queues and the number of slots, as far as they were read
--   states          the hashes of lanes, apps and held batches, by scope and name
--   no_high         by lane: true where no job of class `high` is ready
--   job_of_key      by idempotency key: the job that has it, false where none has
--   passed_over     how many jobs claims came across that are not to be sent, such as expired ones
--   open_record     {id = …, fields = …} while the changes of one record are collected, see record.lua
--   gathered        by key: entries of indexes that are collected, see indexes.lua
--   journal_kinds   the kinds of entries that consumers of the journal want, as a set; nil before it was read
--   intake          numbers and entries of indexes of the jobs that this call takes in, see intake.lua

local M = {}

local clock_now, clock_stamp

-- Forgets what was read.
function M.forget()
  M.settings, M.lane_limits, M.decoded, M.lengths, M.no_high, M.job_of_key = {}, {}, {}, {}, {}, {}
  M.states = {lane = {}, app = {}, held = {}}
  M.passed_over, M.open_record, M.gathered, M.journal_kinds = 0, nil, nil, nil
end

-- Sets arguments and time. What was read before stays known, for nobody else writes during a call.
function M.set_arguments(arguments)
  M.arguments = arguments
  if arguments[1] == '' then
    M.now, M.stamp = clock_now, clock_stamp
  else
    M.now, M.stamp = tonumber(arguments[1]), arguments[1]
  end
end

function M.start(arguments)
  M.forget()
  local time = redis.call('TIME')
  clock_now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  clock_stamp = string.format('%d', clock_now)
  M.set_arguments(arguments)
end

return M
