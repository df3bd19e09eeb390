-- Recipients of a mailbox in the last 24 hours, in buckets of a minute: the hash recipients:<lane>, with its sum as
-- `total`, and the sorted set minutes:<lane> of its buckets.

local M = {}

local DAY, MINUTE = constants.DAY, constants.MINUTE
local MAX_RECIPIENTS = constants.MAX_RECIPIENTS

local function forget_old_minutes(lane)
  local minutes, counts = keys.minutes(lane), keys.recipients(lane)
  local old = redis.call('ZRANGEBYSCORE', minutes, '-inf', values.integer(call.now - DAY - MINUTE))
  for _, minute in ipairs(old) do
    redis.call('HINCRBY', counts, 'total', values.integer(-tonumber(redis.call('HGET', counts, minute) or 0)))
    redis.call('HDEL', counts, minute)
    redis.call('ZREM', minutes, minute)
  end
end

-- Spends n recipients in the bucket of this minute; a negative n gives them back.
function M.spend(lane, minute, n)
  local counts = keys.recipients(lane)
  if n < 0 and redis.call('HEXISTS', counts, minute) == 0 then return end  -- more than a day ago
  local change = values.integer(n)
  redis.call('HINCRBY', counts, 'total', change)
  if redis.call('HINCRBY', counts, minute, change) == n then
    redis.call('ZADD', keys.minutes(lane), minute, minute)
    forget_old_minutes(lane)
  end
end

local function reserved_by_claims(lane)
  local sum = 0
  for _, id in ipairs(redis.call('SMEMBERS', keys.unmarked(lane))) do
    sum = sum + (tonumber(redis.call('HGET', keys.job(id), 'recipients') or 0) or 0)
  end
  return sum
end

-- When the recipients of this job fit into the last 24 hours: now, or when enough old minutes are over. And whether the
-- recipients of any other claim fit then too.
function M.ready(lane, limits, id, claims)
  local now, counts = call.now, keys.recipients(lane)
  local spent = tonumber(redis.call('HGET', counts, 'total') or 0)
  local room = limits.daily - spent - (claims + 1) * MAX_RECIPIENTS
  if room >= 0 then return now, room >= MAX_RECIPIENTS end  -- whatever the mails are
  local need = tonumber(redis.call('HGET', keys.job(id), 'recipients') or 0) or 0
  if need > limits.daily then return now end  -- they never fit: the claim makes it a dead letter
  forget_old_minutes(lane)
  spent = tonumber(redis.call('HGET', counts, 'total') or 0)
  local over = spent + reserved_by_claims(lane) + need - limits.daily
  if over <= 0 then return now end
  counts = values.hash(counts)
  for _, minute in ipairs(redis.call('ZRANGE', keys.minutes(lane), 0, -1)) do
    over = over - tonumber(counts[minute] or 0)
    if over <= 0 then return tonumber(minute) + DAY + MINUTE end
  end
  return now + MINUTE  -- the rest is reserved by claims that are still open
end

return M
