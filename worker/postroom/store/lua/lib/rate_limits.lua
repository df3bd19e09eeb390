-- Requests per time of a mailbox: marks:<lane> has one entry for each request that sends, scored by its time.
--
-- What claims that are not marked yet will spend counts as spent.

local M = {}

M.MARGIN = 1000  -- ms: a request may reach Graph a little later than its mark

-- How many marks the rates leave, and when there will be one more if they leave none.
function M.left(lane, limits)
  local now, rates = call.now, limits.rates
  if not rates[1] then return math.huge, now end
  local unmarked = redis.call('SCARD', keys.unmarked(lane))
  local left, ready, marks = math.huge, now, keys.marks(lane)
  for _, rate in ipairs(rates) do
    local most, window = rate[1], rate[2] + M.MARGIN
    local spent = redis.call('ZCOUNT', marks, '(' .. values.integer(now - window), '+inf')
    if spent >= most then
      local oldest = redis.call('ZREVRANGE', marks, most - 1, most - 1, 'WITHSCORES')
      ready = math.max(ready, tonumber(oldest[2]) + window)
    end
    left = math.min(left, most - spent - unmarked)
  end
  return left, ready
end

function M.spend(lane, limits, mark)
  local longest, marks = 0, keys.marks(lane)
  for _, rate in ipairs(limits.rates) do longest = math.max(longest, rate[2] + M.MARGIN) end
  if longest == 0 then return end
  redis.call('ZREMRANGEBYSCORE', marks, '-inf', values.integer(call.now - longest))
  redis.call('ZADD', marks, call.now, mark)
end

-- The request of this mark may have reached Graph as late as now.
function M.touch(lane, mark) redis.call('ZADD', keys.marks(lane), 'XX', call.now, mark) end

return M
