-- The functions of this library, by their names.

local M = {run = {}}

-- `flags` are those of redis.register_function. `run(arguments)` is called for each call, the time being the first
-- argument.
function M.register(name, flags, run)
  M.run[name] = run
  redis.register_function({
    function_name = LIBRARY .. name, flags = flags,
    callback = function(_, arguments)
      call.start(arguments)
      return run(arguments)
    end,
  })
end

return M
