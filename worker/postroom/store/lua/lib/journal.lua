-- The journal: a stream of what became of mails, for consumers that have subscribed. Each consumer is a consumer group
-- of the stream; the hash `journal:consumers` has the kinds of entries that each wants.
--
-- Where nobody has subscribed, nothing is written. The stream is bounded in entries and in bytes. What all consumers
-- have acknowledged is removed; where one of them lags, the oldest entries are dropped, and counted for each consumer
-- that had not acknowledged them. An entry has no subject, body or recipient.

local M = {}

local BATCH = constants.BATCH
local CHECK_EACH = 32768      -- bytes written between two looks at the bounds
local DROPS_LOGGED_EACH = 1000
local MOST_DROPS = 10          -- batches in one call: more than are written between two looks

-- The kinds that anybody wants.
local function wanted_kinds()
  local kinds = call.journal_kinds
  if not kinds then
    kinds = {}
    for _, text in ipairs(redis.call('HVALS', keys.journal_consumers)) do
      for kind in string.gmatch(text, '%S+') do kinds[kind] = true end
    end
    call.journal_kinds = kinds
  end
  return kinds
end

local function numbers_of(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local function is_before(a, b)
  local a_ms, a_seq = numbers_of(a)
  local b_ms, b_seq = numbers_of(b)
  return a_ms < b_ms or (a_ms == b_ms and a_seq < b_seq)
end

local function after(id)
  local ms, seq = numbers_of(id)
  return values.integer(ms) .. '-' .. values.integer(seq + 1)
end

-- Redis gives a list of names and values.
local function as_table(list)
  local fields = {}
  for i = 1, #list, 2 do fields[list[i]] = list[i + 1] end
  return fields
end

-- The consumer groups: {name, pending, ['last-delivered-id'], lag, …}.
function M.groups()
  local groups = {}
  if redis.call('EXISTS', keys.journal) == 0 then return groups end
  for i, group in ipairs(redis.call('XINFO', 'GROUPS', keys.journal)) do groups[i] = as_table(group) end
  return groups
end

-- The oldest entry that this consumer has been given and has not acknowledged; false where there is none.
function M.oldest_pending(name) return redis.call('XPENDING', keys.journal, name)[2] end

-- Removes what all consumers have acknowledged.
function M.trim()
  local kept_from
  for _, group in ipairs(M.groups()) do
    local from = group.pending > 0 and M.oldest_pending(group.name) or after(group['last-delivered-id'])
    if not kept_from or is_before(from, kept_from) then kept_from = from end
  end
  if kept_from then redis.call('XTRIM', keys.journal, 'MINID', kept_from) end
end

local function count_dropped(name, count)
  local before = redis.call('HINCRBY', keys.journal_dropped, name, count) - count
  if before == 0 or math.floor(before / DROPS_LOGGED_EACH) ~= math.floor((before + count) / DROPS_LOGGED_EACH) then
    events.log('journal.dropped', {consumer = name, entries = before + count})
  end
end

-- How many of these entries, which end with the id `last`, this consumer has not acknowledged.
local function give_up(group, entries, last)
  local count, delivered = 0, group['last-delivered-id']
  for _, entry in ipairs(entries) do if is_before(delivered, entry[1]) then count = count + 1 end end
  if group.pending == 0 then return count end
  local pending = redis.call('XPENDING', keys.journal, group.name, '-', last, #entries)
  for _, one in ipairs(pending) do redis.call('XACK', keys.journal, group.name, one[1]) end
  return count + #pending
end

local function drop_oldest()
  local entries = redis.call('XRANGE', keys.journal, '-', '+', 'COUNT', BATCH)
  local last = entries[#entries][1]
  for _, group in ipairs(M.groups()) do
    local count = give_up(group, entries, last)
    if count > 0 then count_dropped(group.name, count) end
  end
  redis.call('XTRIM', keys.journal, 'MINID', after(last))
end

-- `offset` of an entry is how many bytes had been written with it, so two of them tell what lies between.
local function keep_bounds(written)
  for _ = 1, MOST_DROPS do
    local first = redis.call('XRANGE', keys.journal, '-', '+', 'COUNT', 1)[1]
    if not first then return end
    local bytes = written - tonumber(as_table(first[2]).offset)
    local count = redis.call('XLEN', keys.journal)
    if bytes <= constants.JOURNAL_BYTES and count <= constants.JOURNAL_ENTRIES then return end
    drop_oldest()
  end
end

local function append(fields)
  local list, size = {}, 0
  for name, value in pairs(fields) do
    value = tostring(value)
    list[#list + 1] = name
    list[#list + 1] = value
    size = size + #name + #value
  end
  local written = redis.call('INCRBY', keys.journal_written, size)
  redis.call('XADD', keys.journal, '*', 'offset', values.integer(written), unpack(list))
  if math.floor(written / CHECK_EACH) ~= math.floor((written - size) / CHECK_EACH) then keep_bounds(written) end
end

-- `entry` is the attempt as JSON, as attempts:<id> keeps it.
function M.note_attempt(id, job, entry)
  if not wanted_kinds().attempt then return end
  append({
    kind = 'attempt', job = id, time = call.stamp, attempt = entry,
    sender = job.sender, lane = job.lane, batch = job.batch, key = job.key,
  })
end

function M.note_end(id, job)
  if not wanted_kinds().ended then return end
  append({
    kind = 'ended', job = id, time = call.stamp, status = job.status, reason = job.reason, number = job.tries,
    http_status = job.http_status, graph_code = job.graph_code, request_id = job.request_id, in_doubt = job.in_doubt,
    sender = job.sender, lane = job.lane, batch = job.batch, key = job.key, tags = job.tags,
    created = job.created,
  })
end

return M
