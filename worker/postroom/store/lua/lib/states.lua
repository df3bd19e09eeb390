-- The hashes lane:<lane>, app:<app> and held:<batch>: what is known of a lane, an app or a batch besides its jobs.
--
-- Each is read once in a call, so every write to one goes through this file. A table that was read before a write
-- stays what it was.

local M = {}

function M.read(scope, name)
  local known = call.states[scope]
  if not known[name] then known[name] = values.hash(keys.state(scope, name)) end
  return known[name]
end

-- To be called where a command outside this file writes into one.
function M.forget(scope, name) call.states[scope][name] = nil end

-- A copy with these fields and values, so that the hash need not be read again.
local function with_fields(state, ...)
  local changed = {}
  for field, value in pairs(state) do changed[field] = value end
  for i = 1, select('#', ...), 2 do
    local field, value = select(i, ...)
    changed[field] = tostring(value)
  end
  return changed
end

function M.write(command, scope, name, ...)
  local known = call.states[scope][name]
  call.states[scope][name] = known and command == 'HSET' and with_fields(known, ...) or nil
  return redis.call(command, keys.state(scope, name), ...)
end

return M
