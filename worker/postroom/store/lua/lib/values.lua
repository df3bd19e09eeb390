-- Small helpers for values as Redis has them.

local M = {}

function M.non_empty(text) return text ~= '' and text or nil end

function M.integer(number) return string.format('%d', number) end

-- A hash as a table. In RESP 3 it comes as a table made in C, a quarter cheaper than out of a list.
function M.hash(key)
  redis.setresp(3)
  local fields = redis.call('HGETALL', key).map
  redis.setresp(2)
  return fields
end

return M
