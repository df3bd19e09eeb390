"""Drafts: `POST …/messages` makes one, `POST …/messages/{id}/send` sends it; `GET` and `DELETE …/messages/{id}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from postroom.sandbox.connection import Answer, Call
from postroom.sandbox.entra.tokens import Claims
from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.exchange.message import Message, Outgoing
from postroom.sandbox.graph.errors import graph_headers
from postroom.sandbox.graph.json_mail import check_recipients, read_json_message
from postroom.sandbox.graph.look_up import ROLES, attachment_resource, message_resource
from postroom.sandbox.graph.mime_mail import read_mime_mail
from postroom.sandbox.graph.send_mail import read_mail
from postroom.sandbox.graph.visit import Visit
from postroom.sandbox.world import World


class CreateDraft:
    """Puts a mail into Drafts and answers with its id."""

    stage = "draft"
    method = "POST"

    def __init__(self, world: World) -> None:
        self._world = world

    def read(self, visit: Visit, body: bytes) -> Outgoing:
        """The mail in this body, which may have no recipients yet."""
        return read_mail(visit.call, body, read_json_message, lambda mime: read_mime_mail(mime, complete=False))

    def allow(self, claims: Claims, visit: Visit) -> None:
        """Raises GraphError unless the token may write mail and the mailbox exists."""
        require_role(claims, frozenset({"Mail.ReadWrite"}))
        self._world.exchange.require(visit.user)

    def perform(self, visit: Visit) -> Answer:
        """The draft, with its id."""
        arrival = visit.arrival
        mail = visit.mail_or_error()
        draft = self._world.exchange.create_draft(arrival.mailbox, mail, arrival.job, _wants_immutable_ids(visit.call))
        arrival.message_id = mail.message_id
        # Graph repeats what was posted, files included.
        files = [attachment_resource(one, whole=True) for one in mail.attachments]
        body = {"contentType": "html" if mail.html else "text", "content": mail.html or mail.text}
        return _message_answer(201, draft, visit, {"body": body, "attachments": files})


class SendDraft:
    """Sends a draft. It can be sent once only, since it is no draft any more then."""

    stage = "graph"
    method = "POST"

    def __init__(self, world: World, draft_id: str) -> None:
        self._world = world
        self._draft_id = draft_id

    def read(self, visit: Visit, body: bytes) -> Outgoing:
        """The draft's mail."""
        return self._world.exchange.require_draft(visit.arrival.mailbox, self._draft_id).mail

    def allow(self, claims: Claims, visit: Visit) -> None:
        """Raises GraphError unless the caller may send from this mailbox, and it exists."""
        self._world.tenant.require_mail_send(claims, visit.arrival.mailbox)
        self._world.exchange.require(visit.user)

    def perform(self, visit: Visit) -> Answer:
        """Gives the draft to Exchange."""
        arrival, exchange = visit.arrival, self._world.exchange
        mail = visit.mail_or_error()
        check_recipients(mail.recipients())
        exchange.require_send_as(arrival.mailbox, mail)
        exchange.send_draft(arrival.mailbox, self._draft_id, arrival.request_id, visit.meter)
        arrival.accepted = True
        return Answer(202, graph_headers(arrival.request_id, arrival.client_request_id))


class GetMessage:
    """Shows one message, draft or sent."""

    stage = "lookup"
    method = "GET"

    def __init__(self, world: World, message_id: str) -> None:
        self._world = world
        self._message_id = message_id

    def read(self, visit: Visit, body: bytes) -> None:
        """Nothing: the request has no body."""

    def allow(self, claims: Claims, visit: Visit) -> None:
        """Raises GraphError unless the token may read mail and the mailbox exists."""
        require_role(claims, ROLES)
        self._world.exchange.require(visit.user)

    def perform(self, visit: Visit) -> Answer:
        """The message with this id."""
        return _message_answer(
            200, self._world.exchange.require_message(visit.arrival.mailbox, self._message_id), visit
        )


class DeleteMessage:
    """Deletes a message, draft or sent."""

    stage = "delete"
    method = "DELETE"

    def __init__(self, world: World, message_id: str) -> None:
        self._world = world
        self._message_id = message_id

    def read(self, visit: Visit, body: bytes) -> Outgoing:
        """The mail that is deleted."""
        return self._world.exchange.require_message(visit.arrival.mailbox, self._message_id).mail

    def allow(self, claims: Claims, visit: Visit) -> None:
        """Raises GraphError unless the token may write mail and the mailbox exists."""
        require_role(claims, frozenset({"Mail.ReadWrite"}))
        self._world.exchange.require(visit.user)

    def perform(self, visit: Visit) -> Answer:
        """Deletes the message; the answer has no body."""
        arrival = visit.arrival
        visit.mail_or_error()
        self._world.exchange.delete(arrival.mailbox, self._message_id)
        return Answer(204, graph_headers(arrival.request_id, arrival.client_request_id))


def require_role(claims: Claims, any_of: frozenset[str]) -> None:
    """Raises GraphError unless the token has one of these roles."""
    if not claims.roles & any_of:
        raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")


def _wants_immutable_ids(call: Call) -> bool:
    return 'idtype="immutableid"' in call.header(b"prefer").casefold().replace(" ", "")


def _message_answer(
    status: int, message: Message, visit: Visit, more: Mapping[str, object] = MappingProxyType({})
) -> Answer:
    arrival = visit.arrival
    headers = graph_headers(arrival.request_id, arrival.client_request_id)
    headers["content-type"] = "application/json;odata.metadata=minimal;odata.streaming=true;charset=utf-8"
    return Answer(status, headers, json.dumps({**message_resource(message, []), **more}).encode())
