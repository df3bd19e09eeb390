"""Failpoints: named points in a mail's life at which a test can kill or freeze the process.

Between two neighbouring failpoints one of three things happens: nothing outside the process, one script in Redis, or
one HTTP request. So what holds at every failpoint holds at every instruction. In production nothing listens.
"""

from collections.abc import Callable
from enum import StrEnum


class Failpoint(StrEnum):
    """Where a process can be stopped, in the order in which a mail passes them."""

    TAKING_IN = "taking_in"  # the mail is valid; Redis does not have it yet
    TAKEN_IN = "taken_in"  # Redis has it; the producer does not know that yet
    CLAIMED = "claimed"
    DRAFTED = "drafted"  # the draft exists in the mailbox; its id is known to this process only
    NOTED = "noted"  # the draft's id is stored with the job
    PREPARED = "prepared"  # the request that sends the mail is built, and there is a token for it
    MARKED = "marked"
    WRITING = "writing"  # the lease was checked for the last time; for every request, look-ups and drafts too
    ANSWERED = "answered"  # the outcome is known to this process only
    SETTLED = "settled"
    TICKING = "ticking"
    TICKED = "ticked"
    CONSUMED = "consumed"  # a consumer has handled entries of the journal; the journal does not know that yet
    RESULT_STORED = "result_stored"  # the result backend has the result; the ledger does not know that yet


def _ignore(_: Failpoint) -> None:
    """The listener in production."""


listener: Callable[[Failpoint], None] = _ignore


def hit(failpoint: Failpoint) -> None:
    """Calls the listener, in this thread, before anything else happens."""
    listener(failpoint)
