"""The steps of a mail at which a process may die or freeze, so that a test can stop one exactly there.

Between two steps either nothing happens outside of the process, or one script runs, or one request is made: what
holds at each of them holds at every instruction. In production nobody listens.
"""

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    TAKING_IN = "taking_in"  # the mail is valid, and nobody has it yet
    TAKEN_IN = "taken_in"  # it is kept, and its producer does not know yet
    CLAIMED = "claimed"
    DRAFTED = "drafted"  # the draft exists, and nobody else knows its id
    NOTED = "noted"  # its id is kept with the job
    PREPARED = "prepared"  # the request that sends and a token are there
    MARKED = "marked"
    WRITING = "writing"  # the lease was looked at for the last time; of any request, look-ups and drafts too
    ANSWERED = "answered"  # the outcome is known here and nowhere else
    SETTLED = "settled"
    TICKING = "ticking"
    TICKED = "ticked"
    RESULT_STORED = "result_stored"  # in a backend elsewhere; the ledger does not know yet


def _nobody(_: Step) -> None:
    """Listens in production."""


listener: Callable[[Step], None] = _nobody


def reached(step: Step) -> None:
    """Tells whoever listens that this step is reached, before anything else happens."""
    listener(step)
