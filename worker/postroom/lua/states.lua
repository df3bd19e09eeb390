-- The hashes lane:<lane> and app:<app>: what is known of a lane or an app besides its jobs.
--
-- Each is read once in a call. So whoever writes into one does it here, and it is read anew where it is needed again; a
-- table that was read before stays what it was.

local function state_key(scope, name) return P .. scope .. ':' .. name end

local function state_of(scope, name)
  local key = state_key(scope, name)
  if not states[key] then states[key] = hash(key) end
  return states[key]
end

local function write_state(command, scope, name, ...)
  local key = state_key(scope, name)
  states[key] = nil
  return redis.call(command, key, ...)
end
