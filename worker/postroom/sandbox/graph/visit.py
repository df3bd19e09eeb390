"""One request to one mailbox, on its way through Graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from postroom.sandbox.connection import Answer, Call
from postroom.sandbox.control.request_log import Arrival
from postroom.sandbox.entra.tokens import Claims
from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.exchange.message import Outgoing
from postroom.sandbox.exchange.traffic import Meter


@dataclass(slots=True)
class Visit:
    """What is known of a request when it is decided. `mail` is the mail that it is about, or why it could not be read.

    `done`: what was asked for is done, whatever the answer will be.
    """

    call: Call
    user: str
    arrival: Arrival
    meter: Meter
    mail: Outgoing | GraphError | None = None
    done: bool = False

    def mail_or_error(self) -> Outgoing:
        """The mail. Raises GraphError where it could not be read."""
        if isinstance(self.mail, Outgoing):
            return self.mail
        raise self.mail or GraphError(400, "UnableToDeserializePostBody", "were unable to deserialize ")


class Operation(Protocol):
    """What a request does with a mailbox. Each method raises GraphError to refuse the request."""

    stage: str
    method: str

    def read(self, visit: Visit, body: bytes) -> Outgoing | None:
        """The mail that the request is about, for operations that send or write one."""

    def allow(self, claims: Claims, visit: Visit) -> None:
        """Raises GraphError unless the caller may do this, and the mailbox exists."""

    def perform(self, visit: Visit) -> Answer:
        """Does what was asked for, and returns the answer."""
