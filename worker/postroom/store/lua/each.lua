-- Several calls of functions that a full Redis takes too, one after the other: their answers, an error where one fails.
-- ARGV: now, then for each call the function's name, how many arguments it has, and these
local given, said, at = ARGV, {}, 2
while given[at] do
  local name, count = given[at], tonumber(given[at + 1])
  if not MOVES_CLAIMS[name] then write_gathered() end
  gathered = MOVES_CLAIMS[name] and (gathered or {})
  begin({unpack(given, at + 2, at + 1 + count)})
  local fine, answer = pcall(runs[name])
  if not fine then
    write_gathered()
    know_nothing()  -- it may have noted more than it has written
  end
  said[#said + 1] = fine and answer or redis.error_reply(type(answer) == 'table' and answer.err or tostring(answer))
  at = at + 2 + count
end
write_gathered()
return said
