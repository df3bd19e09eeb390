-- Which of these commands the user of Redis may not call, as texts.
-- Arguments: now, then for each command the number of its words, and these

return function(arguments)
  local refused, at = {}, 2
  while arguments[at] do
    local count = tonumber(arguments[at])
    if not redis.acl_check_cmd(unpack(arguments, at + 1, at + count)) then
      refused[#refused + 1] = table.concat(arguments, ' ', at + 1, at + math.min(count, 2))
    end
    at = at + 1 + count
  end
  return refused
end
