-- The workers, by when they ticked last, and the facts that each goes by. All workers should go by the same ones.

local M = {}

local COMMON = {'settings', 'templates'}
local DAY = constants.DAY

-- Logs which facts differ, once for each difference.
local function note_differences()
  local first, differing = nil, {}
  for _, text in pairs(values.hash(keys.workers_facts)) do
    local facts = cjson.decode(text)
    first = first or facts
    for _, name in ipairs(COMMON) do differing[name] = differing[name] or facts[name] ~= first[name] end
  end
  local told, found, is_news = redis.call('GET', keys.workers_differ) or '', {}, false
  for _, name in ipairs(COMMON) do
    if differing[name] then
      found[#found + 1] = name
      is_news = is_news or not string.find(told, name, 1, true)
    end
  end
  redis.call('SET', keys.workers_differ, table.concat(found, ' '))
  if is_news then events.log('workers.differ', {facts = table.concat(found, ' ')}) end
end

-- An older version's tick forgets a worker and leaves its facts.
local function forget_facts_but_of(living)
  local has_gone = false
  for _, name in ipairs(redis.call('HKEYS', keys.workers_facts)) do
    if not living[name] then
      redis.call('HDEL', keys.workers_facts, name)
      has_gone = true
    end
  end
  if has_gone then note_differences() end
end

-- Logs once a day that a credential ends soon. (`expiring`: by app, when.)
local function note_expiring(facts)
  for app, ends in pairs(cjson.decode(facts).expiring or {}) do
    local told = redis.call('HGET', keys.expiring_told, app)
    if not told or call.now - tonumber(told) >= DAY then
      redis.call('HSET', keys.expiring_told, app, call.stamp)
      events.log('credential.expiring', {app = app, days = math.floor((ends - call.now) / DAY)})
    end
  end
end

-- What this worker goes by, as JSON; it may say so before its first tick.
function M.introduce(worker, slots_of_it, facts)
  redis.call('HSETNX', keys.workers, worker, call.stamp .. ' ' .. slots_of_it)
  note_expiring(facts)
  if redis.call('HGET', keys.workers_facts, worker) == facts then return end
  redis.call('HSET', keys.workers_facts, worker, facts)
  note_differences()
end

-- Notes a worker's tick and forgets those that are gone. Returns the slots of all.
function M.ticked(worker, slots_of_it)
  redis.call('HSET', keys.workers, worker, call.stamp .. ' ' .. slots_of_it)
  local sum, living = 0, {}
  for name, text in pairs(values.hash(keys.workers)) do
    local seen, count = string.match(text, '(%S+) (%S+)')
    if tonumber(seen) < call.now - constants.WORKER_LOST_AFTER then redis.call('HDEL', keys.workers, name)
    else
      sum, living[name] = sum + tonumber(count), true
    end
  end
  forget_facts_but_of(living)
  return sum
end

return M
