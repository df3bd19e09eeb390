-- Tasks on queues of Celery's, in its message protocol 2 (docs.celeryq.dev: internals/protocol) as kombu's Redis
-- transport writes it. Doing it here makes a move and the task that it asks for one step.

local M = {}

-- The length of a queue, read once in a call. Whoever adds to a queue or takes from it keeps it right.
function M.length(queue)
  local lengths = call.lengths
  if not lengths[queue] then lengths[queue] = redis.call('LLEN', queue) end
  return lengths[queue]
end

function M.rounds_waiting() return M.length(constants.NORMAL_QUEUE) + M.length(constants.HIGH_QUEUE) end

-- Pushes a task. `args` and `kwargs` are JSON, for Lua cannot tell an empty list from an empty object. Returns what
-- LPUSH does; an error of Redis is returned, not raised.
function M.push(queue, task, id, args, kwargs, ignore_result)
  local body = '[' .. args .. ',' .. kwargs .. ',{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
  local name, quoted, routing_key = cjson.encode(task), cjson.encode(id), cjson.encode(queue)
  local message = string.format('{"body":%s,"content-encoding":"utf-8","content-type":"application/json",' ..
    '"headers":{"lang":"py","task":%s,"id":%s,"root_id":%s,"parent_id":null,"group":null,' ..
    '"ignore_result":%s,"retries":0,"eta":null,"expires":null,"timelimit":[null,null]},' ..
    '"properties":{"correlation_id":%s,"delivery_mode":2,"delivery_info":{"exchange":"","routing_key":%s},' ..
    '"priority":0,"delivery_tag":%s}}',
    cjson.encode(body), name, quoted, quoted, tostring(ignore_result), quoted, routing_key, quoted)
  local reply = redis.pcall('LPUSH', queue, message)
  call.lengths[queue] = type(reply) == 'number' and reply or nil
  return reply
end

-- The lane that a message of ours asks a round for; nil for all other messages.
function M.lane_of(message)
  -- As `push` writes it: to decode all of it as JSON takes many times as long.
  local lane = string.match(message, '^{"body":"%[%[\\"([^"\\]+)\\"%],')
  if lane and string.find(message, '"headers":{"lang":"py","task":"postroom.round",', 1, true) then return lane end
  local is_json, decoded = pcall(cjson.decode, message)
  if not is_json or type(decoded) ~= 'table' or type(decoded.headers) ~= 'table' then return nil end
  if decoded.headers.task ~= constants.ROUND_TASK then return nil end
  local is_readable, body = pcall(cjson.decode, decoded.body)
  lane = is_readable and type(body) == 'table' and type(body[1]) == 'table' and body[1][1]
  return type(lane) == 'string' and lane or nil
end

-- Takes the next message of a queue if it asks for a round of ours. Returns its lane, or nil.
function M.pop_round()
  local queue = M.length(constants.HIGH_QUEUE) > 0 and constants.HIGH_QUEUE or constants.NORMAL_QUEUE
  local message = redis.call('LINDEX', queue, -1)
  local lane = message and M.lane_of(message)
  if not lane then return nil end
  redis.call('RPOP', queue)
  local lengths = call.lengths
  lengths[queue] = lengths[queue] and lengths[queue] - 1
  return lane
end

return M
