-- Bytes that a mailbox uploaded in the last 5 minutes: the hash uploaded:<lane>, in buckets of 5 s, with its sum as
-- `total`. https://learn.microsoft.com/graph/throttling-limits#outlook-service-limits

local M = {}

local WINDOW, BUCKET = 300000, 5000  -- ms
local MOST = 150000000               -- bytes

local function end_of_bucket(start) return tonumber(start) + BUCKET + WINDOW + rate_limits.MARGIN end

local function forget_old(lane)
  local key = keys.uploaded(lane)
  for start, bytes in pairs(values.hash(key)) do
    if start ~= 'total' and end_of_bucket(start) <= call.now then
      redis.call('HDEL', key, start)
      redis.call('HINCRBY', key, 'total', values.integer(-tonumber(bytes)))
    end
  end
end

-- When so many bytes more fit.
local function ready_at(lane, bytes)
  local buckets = values.hash(keys.uploaded(lane))
  local over = tonumber(buckets.total or 0) + bytes - MOST
  buckets.total = nil
  local starts = {}
  for start in pairs(buckets) do starts[#starts + 1] = start end
  table.sort(starts, function(a, b) return tonumber(a) < tonumber(b) end)
  for _, start in ipairs(starts) do
    over = over - tonumber(buckets[start])
    if over <= 0 then return end_of_bucket(start) end
  end
  return call.now
end

-- Spends the bytes of a request. Where they do not fit, it spends nothing and returns how long until they do (ms).
function M.spend(lane, bytes)
  local now, key = call.now, keys.uploaded(lane)
  if redis.call('HINCRBY', key, 'total', bytes) > MOST then
    redis.call('HINCRBY', key, 'total', values.integer(-bytes))
    forget_old(lane)
    local at = ready_at(lane, bytes)
    if at > now then return at - now end
    redis.call('HINCRBY', key, 'total', bytes)
  end
  local bucket = values.integer(math.floor(now / BUCKET) * BUCKET)
  if redis.call('HINCRBY', key, bucket, bytes) == bytes then forget_old(lane) end
end

return M
