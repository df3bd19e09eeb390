-- A round begins: the lane's first claim. It is asked for by a message, which Celery brings; or which a hand that has
-- nothing more to do in its lane takes out of the queue itself, for Celery needs 2 ms of CPU for each.

local function start_round(lane, hand)
  local cfg = lane_settings(lane)
  local asked = tonumber(state_of('lane', lane).asked or 0)
  if asked > 0 then write_state('HSET', 'lane', lane, 'asked', asked - 1) end
  local found, at, can_go = claim_next(lane, cfg, hand)
  local goes_on, how_many = plan(lane, cfg, at, can_go)
  hand_out(TURNS, {[lane] = goes_on and how_many or nil})
  return found
end

-- The lane that a message of ours asks a round for (messages.lua); nil for all else, which is Celery's.
local function lane_of(message)
  -- As ask_task writes it: to read all of it as JSON takes many times as long.
  local ours = string.match(message, '^{"body":"%[%[\\"([^"\\]+)\\"%],')
  if ours and string.find(message, '"headers":{"lang":"py","task":"postroom.round",', 1, true) then return ours end
  local ok, said = pcall(cjson.decode, message)
  if not ok or type(said) ~= 'table' or type(said.headers) ~= 'table' or said.headers.task ~= 'postroom.round' then return nil end
  local readable, body = pcall(cjson.decode, said.body)
  local lane = readable and type(body) == 'table' and type(body[1]) == 'table' and body[1][1]
  return type(lane) == 'string' and lane or nil
end

local function chained_key(token) return P .. 'chained:' .. token end

-- For whoever asks again after a lost reply; who does not learn of it loses the claim when its lease ends.
local function remember(hand, id, lane)
  redis.call('SET', chained_key(hand.token), cjson.encode({id, lane}), 'PX', hand.lease)
end

-- The claim with which the next round in the queue begins; nil where there is none, or something else comes first.
local function next_round(hand)
  for _ = 1, TURNS do
    local queue = length_of('postroom.high') > 0 and 'postroom.high' or 'postroom'
    local message = redis.call('LINDEX', queue, -1)
    local lane = message and lane_of(message)
    if not lane then return nil end
    redis.call('RPOP', queue)
    counted[queue] = counted[queue] and counted[queue] - 1
    local found = start_round(lane, hand)
    if found then
      remember(hand, found[2], lane)
      return found
    end
  end
end

-- What this token claimed in another lane than its own before, when the reply was lost.
local function chained_before(token)
  local said = redis.call('GET', chained_key(token))
  local id = said and cjson.decode(said)[1]
  local job = id and record(id)
  if not job or job.place ~= 'claim' or job.token ~= token then return nil end
  return claimed(id, job, lane_settings(job.lane), read_mail(id, job))
end

-- The hand that a call's arguments are of, those from `first` on being the apps.
local function hand_of(token, lease, first)
  local apps = {}
  for n = first, #ARGV do apps[ARGV[n]] = true end
  return {token = token, lease = tonumber(lease), apps = apps}
end

-- A claim, or none, as a worker is told of it.
local function told(found)
  if not found then return {'nothing'} end
  found[6] = length_of('postroom') + length_of('postroom.high')
  return found
end
