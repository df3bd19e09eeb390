-- Constants of the library. Those that Python has too are in this table already: store/constants.py renders them, so
-- each is written in one place only. Here are those that several modules share.

local M = constants

M.MINUTE, M.HOUR, M.DAY = 60000, 3600000, 86400000  -- milliseconds
M.BATCH = 100  -- jobs, lanes or entries that one step handles at most: nobody else has Redis meanwhile
M.CLASSES = {'check', 'high', 'again', 'normal', 'low'}  -- of ready jobs, in the order in which they go
M.NO_CLAIM_LOOK = 5000  -- ms: when to look again at a lane that somebody else will wake, in case they do not
