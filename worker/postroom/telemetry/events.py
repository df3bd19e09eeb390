"""Log events. An event's name is in the past tense, and each event becomes one line of the log.

An event never has an address, a subject, a body or a secret.
"""

from collections.abc import Callable

Emit = Callable[..., None]  # emit("mail.accepted", job="…", …)
