-- Several calls of functions that a full Redis takes too, one after the other: their answers, an error where one fails.
-- ARGV: now, then for each call the function's name, how many arguments it has, and these
local given, said, at = ARGV, {}, 2
while given[at] do
  local arguments = {}
  for i = 1, tonumber(given[at + 1]) do arguments[i] = given[at + 1 + i] end
  begin(arguments)
  local fine, answer = pcall(runs[given[at]])
  if not fine then know_nothing() end  -- it may have noted more than it has written
  said[#said + 1] = fine and answer or redis.error_reply(type(answer) == 'table' and answer.err or tostring(answer))
  at = at + 2 + #arguments
end
return said
