-- The settings that the workers published, in the hash `config`: `lane:<lane>` and `*` are limits as JSON,
-- `alias:<address>` is the lane of an alias, `alias:*@<domain>` that of all others of a domain, the rest are single
-- values.

local M = {}

function M.setting(name)
  local settings = call.settings
  if settings[name] == nil then settings[name] = redis.call('HGET', keys.config, name) end
  return settings[name] or nil
end

function M.are_published() return M.setting('*') ~= nil end

-- Reads many settings in one command.
function M.read(names)
  if #names == 0 then return end
  local settings = call.settings
  for i, value in ipairs(redis.call('HMGET', keys.config, unpack(names))) do settings[names[i]] = value end
end

-- The names of the settings that say whose lane a sender's mail goes to: its own first.
function M.names_of_sender(sender) return 'alias:' .. sender, 'alias:*' .. (string.match(sender, '@[^@]*$') or '') end

function M.lane_of_sender(sender)
  local own, of_domain = M.names_of_sender(sender)
  return M.setting(own) or M.setting(of_domain) or sender
end

-- The limits of a lane: {app, parallel, daily, rates = {{count, ms}, …}, by_draft}.
function M.limits(lane)
  local known = call.lane_limits
  if not known[lane] then
    -- most lanes are a sender's own, whose alias is asked for soon: to read both at once costs no more
    if call.settings['lane:' .. lane] == nil then M.read({'lane:' .. lane, M.names_of_sender(lane)}) end
    local text, decoded = M.setting('lane:' .. lane) or M.setting('*'), call.decoded
    if text and not decoded[text] then decoded[text] = cjson.decode(text) end
    known[lane] = decoded[text] or constants.DEFAULT_LIMITS
  end
  return known[lane]
end

return M
