-- Rounds: asked for on Celery's queue, in Celery's message protocol 2 (docs.celeryq.dev: internals/protocol) as
-- kombu's Redis transport writes it. Doing it here makes "the job is in" and "a worker will come" one step.

local ROUND_LOST_AFTER = 30000

local function ask(lane, queue)
  local id = 'round-' .. redis.call('INCR', P .. 'rounds')
  local body = '[[' .. cjson.encode(lane) .. '],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
  local message = string.format('{"body":%s,"content-encoding":"utf-8","content-type":"application/json",' ..
    '"headers":{"lang":"py","task":"postroom.round","id":"%s","root_id":"%s","parent_id":null,"group":null,' ..
    '"ignore_result":true,"retries":0,"eta":null,"expires":null,"timelimit":[null,null]},' ..
    '"properties":{"correlation_id":"%s","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"%s"},' ..
    '"priority":0,"delivery_tag":"%s"}}', cjson.encode(body), id, id, id, queue, id)
  redis.call('LPUSH', queue, message)
end

-- How many rounds the queue takes until it is longer than twice the hands. The one that is read first
-- does not wait for the other.
local function room_in(queue)
  local length = redis.call('LLEN', 'postroom.high')
  if queue == 'postroom' then length = length + redis.call('LLEN', 'postroom') end
  return 2 * tonumber(redis.call('GET', P .. 'hands') or 0) + 1 - length
end

local function ask_up_to(lane, wanted)
  local key = of_lane('lane', lane)
  local asked = redis.call('HMGET', key, 'asked', 'asked_at')
  local outstanding, since = tonumber(asked[1] or 0), tonumber(asked[2] or 0)
  if outstanding <= 0 or since + ROUND_LOST_AFTER <= now then outstanding, since = 0, now end
  if wanted > outstanding then
    local queue = redis.call('EXISTS', of_lane('ready:high', lane)) == 1 and 'postroom.high' or 'postroom'
    local more = math.min(wanted - outstanding, room_in(queue))
    for _ = 1, more do ask(lane, queue) end
    outstanding = outstanding + math.max(more, 0)
    redis.call('HSET', key, 'asked', outstanding, 'asked_at', since)
  end
  if outstanding >= wanted then redis.call('ZADD', P .. 'lanes', since + ROUND_LOST_AFTER, lane)
  else redis.call('ZADD', P .. 'lanes', 'LT', now, lane)  -- the one that waits longest comes first
  end
end

-- Sees to it that the lane's jobs will be fetched: rounds for what can go now, a wake-up for what must wait.
-- Says whether one can go now.
local function plan(lane, cfg)
  local at, can_go = outlook(lane, cfg)
  if not at then
    redis.call('ZREM', P .. 'lanes', lane)
    redis.call('ZREM', P .. 'hands:waiting', lane)
    redis.call('SREM', state_key('app', cfg.app) .. ':waiting', lane)
  elseif at > now then
    redis.call('ZADD', P .. 'lanes', at, lane)
  else
    ask_up_to(lane, can_go)
  end
  return at and at <= now
end
