-- A part of list_holds.lua and paused.lua: holds in the words of ledger.py.

local function fault_said(scope, name, state)
  return {scope = scope, name = name, reason = state.held_reason, since = tonumber(state.held_since),
    next_probe = paused_until(state)}
end

local function stop_said(scope, name, state)
  return {scope = scope, name = name, reason = state.stopped_reason, by = state.stopped_by,
    since = tonumber(state.stopped_since), ends = tonumber(state.stopped_until)}
end
