-- Tasks that a producer wants at the end of its mail, on its own Celery workers: `on_accepted` and `on_dead` of the
-- record, each JSON with `task`, `queue`, `args` and `kwargs` (these two as JSON in a string), and `immutable` if the
-- job's id is not to be the first argument.
--
-- The end of a mail adds what is to be called to the stream `callbacks`, which is bounded by nothing: it is a promise.
-- A worker has each pushed to its queue, and again later where that is refused (consumers/callbacks.py).

local M = {}

local FIELD = {accepted = 'on_accepted', dead = 'on_dead', expired = 'on_dead'}

local function arguments_of(id, callback)
  if callback.immutable then return callback.args end
  return '[' .. cjson.encode(id) .. (callback.args == '[]' and '' or ',') .. string.sub(callback.args, 2)
end

-- The id of the task tells one end from another, for a dead letter that is requeued ends again.
function M.add(id, job)
  local text = FIELD[job.status] and job[FIELD[job.status]]
  if not text then return end
  local callback = cjson.decode(text)
  redis.call('XADD', keys.callbacks, '*', 'kind', 'callback', 'job', id, 'time', call.stamp,
    'task_id', id .. '-' .. job.status .. '-' .. job.changed, 'queue', callback.queue, 'task', callback.task,
    'args', arguments_of(id, callback), 'kwargs', callback.kwargs)
end

return M
