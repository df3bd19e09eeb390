-- One page of an index of jobs, newest first: {score and id of the last that was looked at, or '' at the end; {ids that
-- fit}}. Where a page begins is a place in the order, so what enters the index meanwhile moves nothing.
-- ARGV: now, index, score and id after which it begins ('' both: the newest), most that fit, most that are looked at,
--       filter (JSON: status, batch, reason, to, senders, since, till)
local index, score, after, most, looks = P .. ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local wanted = cjson.decode(ARGV[7])
local STEP = 200

-- As Redis orders those of one score: by their bytes.
local function stands_before(a, b)
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then return a:byte(i) < b:byte(i) end
  end
  return #a < #b
end

local senders = wanted.senders and {}
for _, sender in ipairs(wanted.senders or {}) do senders[sender] = true end

local function fits(job)
  local created = tonumber(job[6])
  return not (wanted.status and job[1] ~= wanted.status or wanted.reason and job[2] ~= wanted.reason
    or senders and not senders[job[3]] or wanted.batch and job[4] ~= wanted.batch
    or wanted.to and not string.find(' ' .. (job[5] or '') .. ' ', ' ' .. wanted.to .. ' ', 1, true)
    or wanted.since and created < wanted.since or wanted.till and created >= wanted.till)
end

local ids, seen, offset = {}, 0, 0
local from = score == '' and '+inf' or score
while true do
  local found = redis.call('ZREVRANGEBYSCORE', index, from, '-inf', 'WITHSCORES', 'LIMIT', offset, STEP)
  for i = 1, #found, 2 do
    local id, at = found[i], found[i + 1]
    if at ~= score or stands_before(id, after) then
      local job = redis.call('HMGET', job_key(id), 'status', 'reason', 'sender', 'batch', 'to', 'created')
      if not job[1] then
        redis.call('ZREM', index, id)  -- swept by a worker that did not know this index
        offset = offset - 1
      elseif fits(job) then
        ids[#ids + 1] = id
      end
      seen = seen + 1
      local more = #found == 2 * STEP or i < #found - 1
      if more and (#ids >= most or seen >= looks) then return {at, id, ids} end
    end
  end
  if #found < 2 * STEP then return {'', '', ids} end
  offset = offset + STEP
end
