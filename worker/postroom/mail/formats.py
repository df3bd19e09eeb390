"""What a worker must understand to send a mail (`v` of its record), so that an older worker leaves it to a newer one.

A format is added, and only for mail that needs it, when an older worker would send something else.
"""

PLAIN = 1
MIME = 2  # the source of a message, in a field that workers of format 1 do not know
SHARED_OR_CALLBACKS = 2  # shares its content with other mails of its batch, or has a task to call at its end
NEWEST = 2  # what this version understands
