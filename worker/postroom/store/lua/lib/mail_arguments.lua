-- A mail in the arguments of take_in.lua and take_in_many.lua, as intake_codec.py encodes it: job id, sender, priority,
-- recipients, their index tokens, key, fingerprint, not before, expires, `v` ('' for 1), 1 if it is plain, its tags
-- (lines), bytes that Exchange counts, mail. What it does not have is ''.

local M = {}

M.COUNT = 14
M.SENDER, M.KEY = 1, 5  -- offsets from the first one

-- Reads at once the settings by which mail of these senders is taken in; those of what an alias stands for are read
-- later.
function M.read_settings(senders)
  local names = {'*', 'max_message'}
  for sender in pairs(senders) do
    names[#names + 1] = 'lane:' .. sender
    names[#names + 1], names[#names + 2] = config.names_of_sender(sender)
  end
  config.read(names)
end

-- The mail whose arguments begin at n: its id, its record as far as it is known, the mail, its size, when it may leave.
function M.decode(arguments, n, batch)
  local non_empty = values.non_empty
  local id, sender, priority, recipients, to, key, fingerprint, due, expires, v, plain, tags, size, mail =
    unpack(arguments, n, n + M.COUNT - 1)
  return id, {
    sender = sender, lane = config.lane_of_sender(sender), priority = priority, recipients = recipients,
    to = non_empty(to), key = non_empty(key), fingerprint = non_empty(fingerprint), batch = batch,
    expires = non_empty(expires), v = non_empty(v), plain = non_empty(plain), tags = non_empty(tags),
    created = call.stamp, seq = false, place = false, status = false,  -- room for what is set later
  }, mail, tonumber(size), tonumber(due)
end

return M
