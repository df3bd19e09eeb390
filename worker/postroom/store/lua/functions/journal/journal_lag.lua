-- How far each consumer of the journal is behind: JSON, one a consumer, with `consumer`, `kinds`, `waiting` (entries
-- that it has not been given), `pending` (that it has been given and has not acknowledged), `oldest` (when the oldest
-- of these was written, ms) and `dropped` (how many it lost because it lagged).
-- Arguments: now

local function oldest(group)
  if group.pending > 0 then return journal.oldest_pending(group.name) end
  local next_entry = redis.call('XRANGE', keys.journal, '(' .. group['last-delivered-id'], '+', 'COUNT', 1)[1]
  return next_entry and next_entry[1]
end

return function()
  local rows = {}
  for _, group in ipairs(journal.groups()) do
    local id = oldest(group)
    rows[#rows + 1] = cjson.encode({
      consumer = group.name,
      kinds = redis.call('HGET', keys.journal_consumers, group.name) or '',
      waiting = tonumber(group.lag or nil),
      pending = group.pending,
      oldest = id and tonumber(string.match(id, '^%d+')) or nil,
      dropped = tonumber(redis.call('HGET', keys.journal_dropped, group.name) or 0),
    })
  end
  return rows
end
