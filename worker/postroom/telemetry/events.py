"""What happened, in the past tense: one event a move, written as one log line by whoever listens.

An event never carries an address, a subject, a body or a secret.
"""

import traceback
from collections.abc import Callable

Emit = Callable[..., None]  # emit("mail.accepted", job="…", …)


def masked(address: str) -> str:
    """Enough of an address to know whose it is: `n…@contoso.com`."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}"


def signed(by: str) -> str:
    """Who did something: a login such as `ops@mailhost` as it is, a mail address `masked`."""
    return masked(by) if "." in by.rpartition("@")[2] and "@" in by else by


def place_of(error: BaseException) -> str:
    """An error's type and where it was raised; its text may quote what an event must not hold."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__
