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
    """What is known of the request when it is decided upon; `mail` is the one it is about, or why there is none.

    `done`: what was asked for has been done, whatever will be answered.
    """

    call: Call
    user: str
    arrival: Arrival
    meter: Meter
    mail: Outgoing | GraphError | None = None
    done: bool = False

    def mail_or_error(self) -> Outgoing:
        """The mail, or raised, why it could not be read."""
        if isinstance(self.mail, Outgoing):
            return self.mail
        raise self.mail or GraphError(400, "UnableToDeserializePostBody", "were unable to deserialize ")


class Operation(Protocol):
    """What can be done with a mailbox. Each step raises the GraphError that the request earns there."""

    stage: str
    method: str

    def read(self, visit: Visit, body: bytes) -> Outgoing | None:
        """The mail that the request is about, for operations that send or write one."""

    def allow(self, claims: Claims, visit: Visit) -> None:
        """Passes where the caller may do this with the mailbox, and there is one."""

    def perform(self, visit: Visit) -> Answer:
        """Does it."""
