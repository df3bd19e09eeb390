-- Constants of the library. Those that Python has too are rendered from Python (store/constants.py) into
-- `python_constants`, so each is written in one place only.

local M = python_constants

M.MINUTE, M.HOUR, M.DAY = 60000, 3600000, 86400000  -- milliseconds
M.BATCH = 100  -- jobs, lanes or entries that one step handles at most: nobody else has Redis meanwhile
M.CLASSES = {'check', 'high', 'again', 'normal', 'low'}  -- of ready jobs, in the order in which they go
M.NO_CLAIM_LOOK = 5000  -- ms: when to look again at a lane that somebody else will wake, in case they do not

return M
