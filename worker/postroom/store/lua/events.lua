-- What a log is to say of a move that no worker made. The tick of some worker writes it into its log; the record is
-- what is true: of a worker that dies just then, the log lacks a line.

local EVENTS = 10000

local function tell(event, facts)
  facts.event = event
  redis.call('RPUSH', P .. 'events', cjson.encode(facts))
  redis.call('LTRIM', P .. 'events', -EVENTS, -1)
end
