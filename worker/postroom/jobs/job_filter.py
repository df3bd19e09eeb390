"""Which jobs a list is of: the one filter for the client, the command line and the API."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from postroom.jobs.job import ENDED, Status, milliseconds_of, recipient_token
from postroom.mail.address import normal_form


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """The jobs that fit all that is given. `senders`: of any of these; `since` to before `until`: when taken in.

    `by_end` lists jobs of a `status` that ends them in the order of their ends, and `ended_since` only those that ended
    then or later; without it the order is that of arrival. Raises ValueError if `by_end` has no such status.
    """

    status: Status | None = None
    reason: str | None = None
    senders: Sequence[str] = ()
    to: str | None = None
    batch: str | None = None
    key: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    by_end: bool = False
    ended_since: datetime | None = None

    def __post_init__(self) -> None:
        if (self.by_end or self.ended_since) and self.status not in ENDED:
            raise ValueError("only jobs of a status that ends them have an order of ends")

    @property
    def index(self) -> str:
        """The shortest index that has them all (docs/data-model.md)."""
        if self.by_end or self.ended_since:
            return f"status:{self.status}"
        if self.key is not None:
            return "keys"
        if self.to is not None:
            return f"to:{recipient_token(self.to)}"
        if self.batch is not None:
            return f"batch:{self.batch}"
        return f"status:{self.status}" if self.status else "jobs"

    def to_json(self) -> str:
        """The filter as page.lua reads it; times in milliseconds since 1970."""
        fields = {
            "status": self.status,
            "reason": self.reason,
            "senders": [normal_form(sender) for sender in self.senders],
            "to": self.to and recipient_token(self.to),
            "batch": self.batch,
            "key": self.key,
            "tag": self.tag,
            "since": milliseconds_of(self.since),
            "until": milliseconds_of(self.until),
            "ended_since": milliseconds_of(self.ended_since),
        }
        return json.dumps({name: value for name, value in fields.items() if value})
