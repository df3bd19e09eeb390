"""`GET /users/{user}/messages` and `…/mailFolders/{folder}/messages`: finding a sent mail by Message-ID or property."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from postroom.sandbox.connection import Answer
from postroom.sandbox.entra.tokens import Claims
from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.exchange.message import Address, Attachment, Message
from postroom.sandbox.graph.errors import graph_headers
from postroom.sandbox.graph.visit import Visit
from postroom.sandbox.world import World

ROLES = frozenset({"Mail.Read", "Mail.ReadBasic", "Mail.ReadBasic.All", "Mail.ReadWrite"})
FOLDERS = ("sentitems", "drafts", "inbox")

_TEXT = r"'((?:[^']|'')*)'"
_BY_MESSAGE_ID = re.compile(rf"\s*internetMessageId\s+eq\s+{_TEXT}\s*")
_BY_PROPERTY = re.compile(
    r"\s*singleValueExtendedProperties/any\(\s*(\w+)\s*:\s*"
    rf"\1/id\s+eq\s+{_TEXT}\s+and\s+\1/value\s+eq\s+{_TEXT}\s*\)\s*",
    re.IGNORECASE,
)


class LookUp:
    """Lists the messages of a folder, or of the whole mailbox."""

    stage = "lookup"
    method = "GET"

    def __init__(self, world: World, folder: str | None = None) -> None:
        self._world = world
        self._folder = folder and folder.casefold()

    def read(self, visit: Visit, body: bytes) -> None:
        """Nothing: a look-up has no body."""

    def allow(self, claims: Claims, visit: Visit) -> None:
        """Raises GraphError unless the token may read mail and the mailbox exists."""
        if not claims.roles & ROLES:
            raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        self._world.exchange.require(visit.user)

    def perform(self, visit: Visit) -> Answer:
        """The messages that the query asks for, the newest first."""
        if self._folder not in (None, *FOLDERS):
            raise GraphError(400, "ErrorInvalidIdMalformed", "Id is malformed.")
        query = dict(parse_qsl(visit.call.scope["query_string"].decode("utf-8", "replace")))
        fits = _filter(query.get("$filter"))
        top = _top(query.get("$top", "10"))
        found = [message for message in self._visible(visit.arrival.mailbox) if fits(message)][:top]
        select = [name for name in query.get("$select", "").split(",") if name]
        context = f"{self._world.address.graph_url}/v1.0/$metadata#users('{visit.user}')/messages"
        body = {"@odata.context": context, "value": [message_resource(message, select) for message in found]}
        arrival = visit.arrival
        headers = graph_headers(arrival.request_id, arrival.client_request_id)
        headers["content-type"] = "application/json;odata.metadata=minimal;odata.streaming=true;charset=utf-8"
        return Answer(200, headers, json.dumps(body).encode())

    def _visible(self, mailbox: str) -> Iterator[Message]:
        # Transport moves a sent mail from Drafts to Sent Items some time after the 202.
        moved_before = time.time() - self._world.options.sent_items_after
        for message in (*self._world.exchange.drafts(), *self._world.exchange.newest()):
            if message.mailbox != mailbox or not message.folder:
                continue
            folder = message.folder if message.accepted_at <= moved_before else "drafts"
            if self._folder in (None, folder):
                yield message


def _filter(text: str | None) -> Callable[[Message], bool]:
    if text is None:
        return lambda message: True
    if found := _BY_MESSAGE_ID.fullmatch(text):
        message_id = found[1].replace("''", "'")
        return lambda message: message.mail.message_id == message_id
    if found := _BY_PROPERTY.fullmatch(text):
        # The value is compared without regard to case; the property's name is not.
        name, value = (part.replace("''", "'") for part in found.group(2, 3))
        return lambda message: message.mail.properties.get(name, "").casefold() == value.casefold()
    raise GraphError(400, "ErrorInvalidUrlQueryFilter", "The query filter contains one or more invalid nodes.")


def _top(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise GraphError(400, "BadRequest", f"Invalid value '{text}' for $top query option found.")
    return int(text)


def message_resource(message: Message, select: list[str]) -> dict[str, Any]:
    """The message as Graph shows it; with `select`, only those of its properties."""
    mail = message.mail
    sent = datetime.fromtimestamp(message.accepted_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    whole = {
        "createdDateTime": sent,
        "sentDateTime": sent,
        "subject": mail.subject,
        "internetMessageId": mail.message_id,
        "importance": mail.importance,
        "isDraft": message.is_draft,
        "hasAttachments": bool(mail.attachments),
        "from": _recipient(Address("", message.sender)),
        "toRecipients": [_recipient(one) for one in mail.to],
        "ccRecipients": [_recipient(one) for one in mail.cc],
        "bccRecipients": [_recipient(one) for one in mail.bcc],
    }
    wanted = whole if not select else {name: whole[name] for name in select if name in whole}
    return {"@odata.etag": f'W/"{message.number}"', "id": message.id, **wanted}


def attachment_resource(attachment: Attachment, *, whole: bool = False) -> dict[str, Any]:
    """The attachment as Graph shows it; `whole` as in the answer to a POST, which repeats its content."""
    return {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "id": attachment.id,
        "name": attachment.filename,
        "contentType": attachment.content_type,
        "size": len(attachment.content),
        "isInline": attachment.inline,
        "contentId": attachment.content_id or None,
        **({"contentBytes": base64.b64encode(attachment.content).decode()} if whole else {}),
    }


def _recipient(person: Address) -> dict[str, Any]:
    return {"emailAddress": {"name": person.name or person.address, "address": person.address}}
