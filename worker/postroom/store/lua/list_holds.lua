-- All that is held: JSON, one a hold.
-- ARGV: now
local found = {}

local function waiting_in(lane) return waiting(lane).all + redis.call('ZCARD', of_lane('later', lane)) end

local function waiting_for(scope, name)
  if scope == 'lane' then return waiting_in(name) end
  if scope == 'batch' then return redis.call('ZCARD', aside_key(name)) end
  local sum = 0
  for _, lane in ipairs(redis.call('SMEMBERS', state_key('app', name) .. ':waiting')) do sum = sum + waiting_in(lane) end
  return sum
end

local function note(set, of)
  for _, held in ipairs(redis.call('ZRANGE', P .. set, 0, -1)) do
    local scope, name = string.match(held, '^(%l+):(.*)$')
    local said = of(scope, name)
    said.waiting = waiting_for(scope, name)
    found[#found + 1] = cjson.encode(said)
  end
end

note('faults', function(scope, name) return fault_said(scope, name, state_of(scope, name)) end)
note('holds', function(scope, name)
  return stop_said(scope, name, hash(scope == 'lane' and state_key('lane', name) or held_batch_key(name)))
end)
return found
