"""What happened, in the past tense: one event a move, written as one log line by whoever listens.

An event never carries an address, a subject, a body or a secret.
"""

from collections.abc import Callable

Emit = Callable[..., None]  # emit("mail.accepted", job="…", …)
