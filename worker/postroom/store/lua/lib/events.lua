-- Lines for the log about moves that no worker made. The tick of some worker takes them and writes them into its log.
-- The record is what is true: if that worker dies just then, the log lacks a line.

local M = {}

local EVENTS = 10000

function M.log(event, facts)
  facts.event = event
  redis.call('RPUSH', keys.events, cjson.encode(facts))
  redis.call('LTRIM', keys.events, -EVENTS, -1)
end

function M.log_hold(event, scope, name, facts)
  facts.scope, facts.name = scope, name
  M.log(event, facts)
end

return M
