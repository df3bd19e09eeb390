-- Indexes of jobs that no move reads: by status, and leases.
--
-- While many claims are moved in one call, what one index gets is collected in `call.gathered` and written at the end
-- in one command.
--
-- Jobs that have not ended stand in status:<status> alone, in the order of arrival: there may be a million. Those that
-- have ended stand in status:<status> in the order in which they ended, for they are swept in that order, and in `jobs`
-- in the order of arrival. So `jobs` and the three indexes of waiting jobs together are all jobs in the order of
-- arrival (page.lua).

local M = {}

M.IS_WAITING = {queued = true, deferred = true, sending = true}

local UNPACKED = 4000  -- values of one command: Lua has room for some 8,000

function M.gather(key, name, value)
  local entries = call.gathered[key]
  if not entries then
    entries = {names = {}, values = {}}
    call.gathered[key] = entries
  end
  local scores, names = entries.values, entries.names
  if scores[name] == nil then names[#names + 1] = name end
  scores[name] = value
end

function M.put(key, score, id)
  if call.gathered then return M.gather(key, id, score) end
  redis.call('ZADD', key, score, id)
end

function M.remove(key, id)
  if call.gathered then return M.gather(key, id, false) end
  redis.call('ZREM', key, id)
end

local function call_in_parts(command, key, list, count)
  for first = 1, count, UNPACKED do
    redis.call(command, key, unpack(list, first, math.min(first + UNPACKED - 1, count)))
  end
end

local scratch = {}

-- Writes what was collected, and goes on collecting if `goes_on`.
function M.write_gathered(goes_on)
  local by_key = call.gathered or {}
  call.gathered = goes_on and {} or nil
  for key, entries in pairs(by_key) do
    local names, scores, set, removed, n = entries.names, entries.values, scratch, nil, 0
    for i = 1, #names do
      local name, score = names[i], scores[names[i]]
      if score then
        set[n + 1] = score
        set[n + 2] = name
        n = n + 2
      else
        removed = removed or {}
        removed[#removed + 1] = name
      end
    end
    call_in_parts('ZADD', key, set, n)
    if removed then call_in_parts('ZREM', key, removed, #removed) end
  end
end

function M.leave_status(id, status)
  M.remove(keys.status(status), id)
  if not M.IS_WAITING[status] then M.remove(keys.jobs, id) end
end

function M.enter_status(id, job, status)
  local waits = M.IS_WAITING[status]
  M.put(keys.status(status), waits and job.seq or call.now, id)
  if not waits then M.put(keys.jobs, job.seq, id) end
end

return M
