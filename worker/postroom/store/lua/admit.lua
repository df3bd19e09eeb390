-- A part of stage.lua, take_in.lua and take_in_many.lua: what may be taken in.

local LARGEST = 35 * 1048576  -- what Exchange Online lets a mailbox send, unless its administrator raised it

-- Looks all of these keys up at once.
local function look_up(keys)
  if #keys == 0 then return end
  for i, first in ipairs(redis.call('HMGET', P .. 'keys', unpack(keys))) do first_with[keys[i]] = first end
end

-- {'known'|'conflict', the first job} if the key is taken; {'too_large', most bytes, its bytes}.
local function known(key, fingerprint)
  if not key then return nil end
  if first_with[key] == nil then look_up({key}) end
  local first = first_with[key]
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
