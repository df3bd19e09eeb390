-- What a producer wants called at the end of its mail, as a task of its own Celery workers: `on_accepted` and `on_dead`
-- of the record, each JSON with `task`, `queue`, `args` and `kwargs` (these two as JSON in a string), and `immutable` if
-- the job's id is not to go before the other arguments.

local CALLED = {accepted = 'on_accepted', dead = 'on_dead', expired = 'on_dead'}

-- The task's id tells one end from another, for a dead letter that is requeued ends again.
local function call_back(id, job)
  local said = CALLED[job.status] and job[CALLED[job.status]]
  if not said then return end
  local call = cjson.decode(said)
  local args = call.args
  if not call.immutable then args = '[' .. cjson.encode(id) .. (args == '[]' and '' or ',') .. string.sub(args, 2) end
  local done = ask_task(call.queue, call.task, id .. '-' .. job.status .. '-' .. job.changed, args, call.kwargs, false)
  if type(done) == 'table' and done.err then tell('call.failed', {job = id, error = done.err}) end
end
