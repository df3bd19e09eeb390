-- Tasks that a producer wants at the end of its mail, on its own Celery workers: `on_accepted` and `on_dead` of the
-- record, each JSON with `task`, `queue`, `args` and `kwargs` (these two as JSON in a string), and `immutable` if the
-- job's id is not to be the first argument.

local M = {}

local FIELD = {accepted = 'on_accepted', dead = 'on_dead', expired = 'on_dead'}

-- The id of the task tells one end from another, for a dead letter that is requeued ends again.
function M.push(id, job)
  local text = FIELD[job.status] and job[FIELD[job.status]]
  if not text then return end
  local callback = cjson.decode(text)
  local args = callback.args
  if not callback.immutable then
    args = '[' .. cjson.encode(id) .. (args == '[]' and '' or ',') .. string.sub(args, 2)
  end
  local task_id = id .. '-' .. job.status .. '-' .. job.changed
  local reply = celery_message.push(callback.queue, callback.task, task_id, args, callback.kwargs, false)
  if type(reply) == 'table' and reply.err then events.log('call.failed', {job = id, error = reply.err}) end
end

return M
