-- A part of claim.lua and settle.lua: the lane's best job, leased to `token`, or nil.

local function claimed(id, job, cfg)
  local flat = {}
  for name, value in pairs(job) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  return {'claimed', id, cfg.app, string.format('%d', now), flat, redis.call('GET', mail_key(id)) or ''}
end

local function claim_next(lane, cfg, token, lease)
  for _, id in ipairs(redis.call('ZRANGE', of_lane('claims', lane), 0, -1)) do
    if redis.call('HGET', job_key(id), 'token') == token then return claimed(id, record(id), cfg) end
  end
  for _ = 1, BATCH do
    local at, can_go = outlook(lane, cfg)
    if not at or at > now or can_go < 1 then return nil end
    local id = head_of(lane, turn_of(lane))
    local job = record(id)
    if may_expire(job) then
      expire(id, job)
    elseif tonumber(job.recipients) > cfg.daily then
      leave(id, job)
      finish(id, job, 'dead', 'too_many_recipients')
    else
      leave(id, job)
      redis.call('ZADD', of_lane('claims', lane), now + lease, id)
      redis.call('ZADD', P .. 'leases', now + lease, id)
      redis.call('SADD', of_lane('unmarked', lane), id)
      redis.call('HINCRBY', of_lane('lane', lane), 'turn', 1)
      if is_slow(lane) then redis.call('ZADD', P .. 'slow', now + lease, token) end
      if in_trouble('app', cfg.app) then
        redis.call('HSET', trouble_key('app', cfg.app), 'probe', token, 'probe_until', now + lease)
      end
      update(id, job, {place = 'claim', token = token, phase = 'claimed'})
      return claimed(id, job, cfg)
    end
  end
  return nil
end
