"""Formats of mail: the version that a worker must understand to send it. It is `v` of the job's record.

A worker leaves mail of a newer format to newer workers. Add a format when an older worker would send something else
than was meant, and use it only for mail that needs it.
"""

PLAIN = 1
MIME = 2  # the mail is the source of a message; workers of format 1 do not know that field
PARAMETERS = 2  # a file's content type has parameters, or it is an invitation; workers of format 1 refuse that
SHARED_OR_CALLBACKS = 2  # the mail shares content with others of its batch, or a task is called at its end
NEWEST = 2  # the newest format that this version understands
