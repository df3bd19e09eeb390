"""What a tick returns to the worker that made it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

WORKER_LOST_AFTER_S = 15.0  # a worker that has not ticked for so long counts as gone; it ticks each second


class TokenProbe(NamedTuple):
    """A request for a token that this worker is to make for a held app; `lease` names it."""

    app: str
    lease: str


class Ticked(NamedTuple):
    """`sleep_s` is how long nothing is due; `busy`: more was due than one tick does.

    `events` are what the log should say of moves that no worker made: each an event's name and facts.
    `has_settings` is False where Redis has lost what the workers published.
    """

    sleep_s: float
    busy: bool
    has_settings: bool = True
    probes: tuple[TokenProbe, ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()
