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

local last = {}  -- the end of a mail writes the same time twice

-- Milliseconds since 1970 as ISO 8601.
function M.iso(ms)
  if ms == last.ms then return last.text end
  local days, rest = math.floor(ms / constants.DAY), ms % constants.DAY
  -- days since 1970 to a date: howardhinnant.github.io/date_algorithms.html (civil_from_days)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  last.ms, last.text = ms, string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03d+00:00', year, month, day,
    math.floor(rest / 3600000), math.floor(rest / 60000) % 60, math.floor(rest / 1000) % 60, rest % 1000)
  return last.text
end

return M
