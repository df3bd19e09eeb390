-- Several calls of functions that a full Redis takes too, one after the other: their answers, an error where one fails.
-- Arguments: now, then for each call the name of the function, how many arguments it has, and these

-- Those that many are called of at once: what they write into indexes is collected.
local MOVES_CLAIMS = {claim = true, mark = true, note = true, settle = true}

local function error_reply(fault)
  return redis.error_reply(type(fault) == 'table' and fault.err or tostring(fault))
end

return function(all)
  local answers, at = {}, 2
  while all[at] do
    local name, count = all[at], tonumber(all[at + 1])
    if not MOVES_CLAIMS[name] then indexes.write_gathered() end
    call.gathered = MOVES_CLAIMS[name] and (call.gathered or {})
    local arguments = {unpack(all, at + 2, at + 1 + count)}
    call.set_arguments(arguments)
    local is_well, answer = pcall(functions.run[name], arguments)
    if not is_well then
      indexes.write_gathered()
      call.forget()  -- it may have noted more than it has written
    end
    answers[#answers + 1] = is_well and answer or error_reply(answer)
    at = at + 2 + count
  end
  indexes.write_gathered()
  return answers
end
