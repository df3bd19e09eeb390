-- Tasks asked for on a queue of Celery's, in its message protocol 2 (docs.celeryq.dev: internals/protocol) as kombu's
-- Redis transport writes it. Doing it here makes a move and what it asks for one step.

-- It is asked once in a call; who adds to a queue or takes from it says so.
local function length_of(queue)
  if not counted[queue] then counted[queue] = redis.call('LLEN', queue) end
  return counted[queue]
end

-- `args` and `kwargs` are JSON: Lua cannot tell an empty list from an empty object. An error is returned.
local function ask_task(queue, task, id, args, kwargs, ignore_result)
  local body = '[' .. args .. ',' .. kwargs .. ',{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
  local name, quoted, place = cjson.encode(task), cjson.encode(id), cjson.encode(queue)
  local message = string.format('{"body":%s,"content-encoding":"utf-8","content-type":"application/json",' ..
    '"headers":{"lang":"py","task":%s,"id":%s,"root_id":%s,"parent_id":null,"group":null,' ..
    '"ignore_result":%s,"retries":0,"eta":null,"expires":null,"timelimit":[null,null]},' ..
    '"properties":{"correlation_id":%s,"delivery_mode":2,"delivery_info":{"exchange":"","routing_key":%s},' ..
    '"priority":0,"delivery_tag":%s}}', cjson.encode(body), name, quoted, quoted, tostring(ignore_result), quoted, place, quoted)
  local done = redis.pcall('LPUSH', queue, message)
  counted[queue] = type(done) == 'number' and done or nil
  return done
end
