"""What happened, in the past tense: one event a move, written as one log line by whoever listens.

An event never carries an address, a subject, a body or a secret.
"""

from collections.abc import Callable

Emit = Callable[..., None]  # emit("mail.accepted", job="…", …)


def masked(address: str) -> str:
    """Enough of an address to know whose it is: `n…@contoso.com`."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}"
