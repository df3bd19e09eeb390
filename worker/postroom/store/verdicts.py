"""When Microsoft let an app use a mailbox, or gave it a token, and when it refused: what workers and doctor saw."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from postroom.jobs.job import moment
from postroom.store.functions import Connection, run


class Scope(StrEnum):
    """What a verdict is about: a lane (an app in a mailbox), or an app."""

    LANE = "lane"
    APP = "app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What was seen so far. `refused_since` is the first of the refusals since `allowed_at` that have this reason.

    `allowed_at` and `refused_at` may be up to a minute old. None: never, as far as anybody remembers.
    """

    allowed_first: datetime | None = None
    allowed_at: datetime | None = None
    refused_first: datetime | None = None
    refused_since: datetime | None = None
    refused_at: datetime | None = None
    refused_reason: str | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the last answer was a refusal."""
        return self.refused_at is not None and (self.allowed_at is None or self.refused_at > self.allowed_at)


def known(connection: Connection, scope: Scope, name: str, now: int | None = None) -> Verdicts:
    """What is known of this lane or app. Raises Unavailable."""
    return _ask(connection, scope, name, "", "", now)


def allowed(connection: Connection, scope: Scope, name: str, now: int | None = None) -> Verdicts:
    """Notes that the app was let in just now. Raises Unavailable."""
    return _ask(connection, scope, name, "allowed", "", now)


def refused(connection: Connection, scope: Scope, name: str, reason: str, now: int | None = None) -> Verdicts:
    """Notes that it was refused just now, with the reason (jobs/reasons.py). Raises Unavailable."""
    return _ask(connection, scope, name, "refused", reason, now)


def _ask(connection: Connection, scope: Scope, name: str, verdict: str, reason: str, now: int | None) -> Verdicts:
    answer = [part.decode() for part in run(connection, "witness", now, scope.value, name, verdict, reason)]
    fields = dict(zip(answer[::2], answer[1::2], strict=True))
    reason = fields.pop("refused_reason")
    times = {field: moment(int(at)) if at else None for field, at in fields.items()}
    return Verdicts(**times, refused_reason=reason or None)
