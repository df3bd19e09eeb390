-- Rounds: which lanes get one, and when.

local TURNS = 8  -- rounds that one move hands out at the most; a tick hands out a batch

local outstanding, hand_out, plan
do  -- the shared parts together may have 200 locals
  local ROUND_LOST_AFTER = 30000

  local function ask(lane, queue)
    ask_task(queue, 'postroom.round', 'round-' .. redis.call('INCR', P .. 'rounds'), '[' .. cjson.encode(lane) .. ']', '{}', true)
  end

  -- How many rounds the queue takes until it is longer than twice the hands. The one that is read first
  -- does not wait for the other.
  local function room_in(queue)
    local length = length_of('postroom.high')
    if queue == 'postroom' then length = length + length_of('postroom') end
    return 2 * (hands() or 0) + 1 - length
  end

  -- How many rounds were asked for and have not started, since when, and until when; what takes longer was lost.
  outstanding = function(lane)
    local self = state_of('lane', lane)
    local count, since = tonumber(self.asked or 0), tonumber(self.asked_at or 0)
    if count <= 0 or since + ROUND_LOST_AFTER <= now or since > now then count, since = 0, now end
    return count, since, since + ROUND_LOST_AFTER
  end

  local function queue_of(lane)
    if no_high[lane] then return 'postroom' end
    return redis.call('EXISTS', of_lane('ready:high', lane)) == 1 and 'postroom.high' or 'postroom'
  end

  -- As many are on their way as the lane wants: it is looked at again when they must be lost.
  local function ask_no_more(lane, lost_at)
    redis.call('ZREM', P .. 'waiting', lane)
    redis.call('ZADD', P .. 'lanes', lost_at, lane)
    return 'enough'
  end

  -- Asks for one round more, if the lane wants more than are on their way: 'asked' where it wants another one still,
  -- 'enough' or 'full'.
  local function ask_once(lane, wanted, queue)
    local count, since, lost_at = outstanding(lane)
    if count >= wanted then return ask_no_more(lane, lost_at) end
    if room_in(queue) <= 0 then
      redis.call('ZADD', P .. 'waiting', 'NX', now, lane)
      redis.call('ZADD', P .. 'lanes', now + LOOK_AGAIN, lane)
      return 'full'
    end
    ask(lane, queue)
    write_state('HSET', 'lane', lane, 'asked', count + 1, 'asked_at', since)
    if count + 1 >= wanted then return ask_no_more(lane, lost_at) end
    redis.call('ZADD', P .. 'waiting', now, lane)  -- behind all others that wait
    redis.call('ZADD', P .. 'lanes', now + LOOK_AGAIN, lane)
    return 'asked'
  end

  -- Nothing to ask for now: the lane sleeps until then, or until it has a job.
  local function lay_down(lane, cfg, at)
    if at then
      redis.call('ZREM', P .. 'waiting', lane)
      redis.call('ZADD', P .. 'lanes', at, lane)
      return
    end
    if redis.call('ZREM', P .. 'lanes', lane) == 0 then return end  -- what waits for anything has a wake-up
    redis.call('ZREM', P .. 'waiting', lane)
    redis.call('ZREM', P .. 'hands:waiting', lane)
    redis.call('SREM', state_key('app', cfg.app) .. ':waiting', lane)
  end

  -- One round to the lane that waits longest, as long as the queue has room: each in turn, not all to one.
  -- `can_go`: how many jobs can go of those lanes of which it is known. To hand out rounds changes no outlook, so each
  -- lane is looked at once.
  hand_out = function(turns, can_go)
    for _ = 1, turns do
      local lane = redis.call('ZRANGE', P .. 'waiting', 0, 0)[1]
      local queue = lane and queue_of(lane)
      if not lane or room_in(queue) <= 0 then return end  -- before the lane is looked at, which takes longer
      local cfg, at = lane_settings(lane), now
      if not can_go[lane] then at, can_go[lane] = outlook(lane, cfg) end
      if not at or at > now then lay_down(lane, cfg, at)
      else ask_once(lane, can_go[lane], queue)
      end
    end
  end

  -- Sees to it that the lane's jobs will be fetched: rounds for what can go now, a wake-up for what must wait.
  -- Says whether one can go now. `at` and `can_go`: the lane's outlook, where it is known.
  plan = function(lane, cfg, at, can_go)
    if not can_go then at, can_go = outlook(lane, cfg) end
    if not at or at > now then
      lay_down(lane, cfg, at)
    elseif can_go < 1 then  -- more of it is due than one look takes up
      redis.call('ZADD', P .. 'lanes', now, lane)
    elseif queue_of(lane) == 'postroom.high' then
      repeat local said = ask_once(lane, can_go, 'postroom.high') until said ~= 'asked'
    else
      local count, _, lost_at = outstanding(lane)
      local wants = count < can_go
      redis.call('ZADD', P .. 'lanes', wants and now + LOOK_AGAIN or lost_at, lane)
      -- who waits already gets its turn as soon as a round has started
      if wants and redis.call('ZADD', P .. 'waiting', 'NX', now, lane) == 1 then hand_out(TURNS, {[lane] = can_go}) end
    end
    return at and at <= now, can_go
  end
end
