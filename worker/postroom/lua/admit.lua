-- A part of stage.lua, take_in.lua and take_in_many.lua: what may be taken in.

local LARGEST = 35 * 1048576  -- what Exchange Online lets a mailbox send, unless its administrator raised it

-- {'known'|'conflict', the first job} if the key is taken; {'too_large', most bytes, its bytes}.
local function known(key, fingerprint)
  local first = key ~= '' and redis.call('HGET', P .. 'keys', key)
  local print = first and redis.call('HGET', job_key(first), 'fingerprint')
  if not print then return nil end
  return {print == fingerprint and 'known' or 'conflict', first}
end

local function too_large(size)
  local most = tonumber(setting('max_message') or LARGEST)
  return size > most and {'too_large', whole(most), whole(size)} or nil
end

-- What is larger than a request to Graph can only go by a draft.
local function needs_draft(size) return size > 4000000 end
