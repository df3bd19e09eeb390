"""`POST /users/{user}/sendMail`."""

from __future__ import annotations

from collections.abc import Callable

from postroom.sandbox.connection import Answer, Call
from postroom.sandbox.entra.tokens import Claims
from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.exchange.message import Outgoing
from postroom.sandbox.graph.errors import graph_headers
from postroom.sandbox.graph.json_mail import read_json_mail
from postroom.sandbox.graph.mime_mail import read_mime_mail
from postroom.sandbox.graph.visit import Visit
from postroom.sandbox.world import World


def read_mail(
    call: Call, body: bytes, as_json: Callable[[bytes], Outgoing], as_mime: Callable[[bytes], Outgoing]
) -> Outgoing:
    """The mail in this body, read as the request's content type says."""
    kind = call.header(b"content-type").partition(";")[0].strip().casefold()
    if kind == "application/json":
        return as_json(body)
    if kind == "text/plain":
        return as_mime(body)
    message = (
        "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid "
        "JSON format."
    )
    raise GraphError(415, "UnsupportedMediaType", message) if kind else GraphError(400, "BadRequest", message)


class SendMail:
    """Sends a mail that is given as JSON or as MIME."""

    stage = "graph"
    method = "POST"

    def __init__(self, world: World) -> None:
        self._world = world

    def read(self, visit: Visit, body: bytes) -> Outgoing:
        """The mail in this body."""
        return read_mail(visit.call, body, read_json_mail, read_mime_mail)

    def allow(self, claims: Claims, visit: Visit) -> None:
        """Raises GraphError unless the caller may send from this mailbox, and it exists."""
        self._world.tenant.require_mail_send(claims, visit.arrival.mailbox)
        self._world.exchange.require(visit.user)

    def perform(self, visit: Visit) -> Answer:
        """Gives the mail to Exchange."""
        arrival, exchange = visit.arrival, self._world.exchange
        mail = visit.mail_or_error()
        exchange.require_send_as(arrival.mailbox, mail)
        exchange.accept(arrival.mailbox, mail, arrival.job, arrival.request_id, visit.meter)
        arrival.accepted = True
        arrival.message_id = mail.message_id
        return Answer(202, graph_headers(arrival.request_id, arrival.client_request_id))
