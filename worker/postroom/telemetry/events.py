"""Events: something happened, named in the past tense. Each becomes one line of the log.

An event never carries an address, a subject, a body or a secret.
"""

from collections.abc import Callable

Emit = Callable[..., None]  # emit("mail.accepted", job="…", …)
