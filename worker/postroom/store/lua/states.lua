-- The hashes lane:<lane> and app:<app>: what is known of a lane or an app besides its jobs.
--
-- Each is read once in a call. So whoever writes into one does it here; a table that was read before stays what it was.

local function state_key(scope, name) return P .. scope .. ':' .. name end

local function state_of(scope, name)
  local known = states[scope]
  if not known[name] then known[name] = hash(state_key(scope, name)) end
  return known[name]
end

local function forget_state(scope, name) states[scope][name] = nil end

-- What it says once these fields and values are written, so that it need not be read anew.
local function with_fields(state, ...)
  local changed = {}
  for field, value in pairs(state) do changed[field] = value end
  for i = 1, select('#', ...), 2 do
    local field, value = select(i, ...)
    changed[field] = tostring(value)
  end
  return changed
end

local function write_state(command, scope, name, ...)
  local known = states[scope][name]
  states[scope][name] = known and command == 'HSET' and with_fields(known, ...) or nil
  return redis.call(command, state_key(scope, name), ...)
end
