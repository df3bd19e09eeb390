"""A draft's attachments: added in one request, listed, or begun as an upload session (`uploads.py` takes the ranges).

https://learn.microsoft.com/graph/api/message-post-attachments and
https://learn.microsoft.com/graph/api/attachment-createuploadsession
"""

from __future__ import annotations

import json
from typing import Any

from postroom.sandbox.connection import Answer
from postroom.sandbox.entra.tokens import Claims
from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.exchange.message import Attachment, Message, Outgoing
from postroom.sandbox.graph import edm
from postroom.sandbox.graph.drafts import require_role
from postroom.sandbox.graph.errors import graph_headers
from postroom.sandbox.graph.json_mail import check_attachment, load_json, read_attachment
from postroom.sandbox.graph.look_up import ROLES, attachment_resource
from postroom.sandbox.graph.visit import Visit
from postroom.sandbox.world import World

SMALL = 3 * 1024 * 1024
LARGEST = 150 * 1024 * 1024

_item = edm.record(
    "microsoft.graph.attachmentItem",
    {
        "attachmentType": edm.choice("microsoft.graph.attachmentType", "file", "item", "reference"),
        "name": edm.text,
        "size": edm.integer,
        "contentType": edm.text,
        "isInline": edm.boolean,
        "contentId": edm.text,
    },
)


class _OfDraft:
    """What all requests about a draft's attachments share: the draft, and who may change it."""

    stage = "attachment"
    method = "POST"

    def __init__(self, world: World, draft_id: str) -> None:
        self._world = world
        self._draft_id = draft_id
        self._body = b""
        self._claims: Claims

    def read(self, visit: Visit, body: bytes) -> Outgoing:
        """The draft's mail."""
        self._body = body
        return self._draft(visit).mail

    def allow(self, claims: Claims, visit: Visit) -> None:
        """Raises GraphError unless the token may write mail and the mailbox exists."""
        require_role(claims, frozenset({"Mail.ReadWrite"}))
        self._claims = claims
        self._world.exchange.require(visit.user)

    def _draft(self, visit: Visit) -> Message:
        return self._world.exchange.require_draft(visit.arrival.mailbox, self._draft_id)


class AddAttachment(_OfDraft):
    """Adds a file to a draft. It must be smaller than 3 MB, since a request has at most 4 MB in base64."""

    def perform(self, visit: Visit) -> Answer:
        """The attachment, with its id."""
        mail = visit.mail_or_error()
        resource = load_json(self._body)
        check_attachment(resource, "attachment")
        attachment = read_attachment(resource)
        mail.attach(attachment)
        return _answer(201, attachment_resource(attachment, whole=True), visit)


class ListAttachments(_OfDraft):
    """Tells which files a message has so far; those of an upload session only once it is complete."""

    method = "GET"

    def read(self, visit: Visit, body: bytes) -> Outgoing:
        """The message's mail."""
        return self._world.exchange.require_message(visit.arrival.mailbox, self._draft_id).mail

    def allow(self, claims: Claims, visit: Visit) -> None:
        """Raises GraphError unless the token may read mail and the mailbox exists."""
        require_role(claims, ROLES)
        self._world.exchange.require(visit.user)

    def perform(self, visit: Visit) -> Answer:
        """The attachments, without their contents."""
        return _answer(200, {"value": [attachment_resource(one) for one in visit.mail_or_error().attachments]}, visit)


class CreateUploadSession(_OfDraft):
    """Begins the upload of a file of 3 MB to 150 MB."""

    def perform(self, visit: Visit) -> Answer:
        """An answer with the URL that the file's ranges are PUT to, and until when."""
        visit.mail_or_error()
        given = {name.casefold(): value for name, value in load_json(self._body).items()}
        item = given.get("attachmentitem")
        _item(item, "AttachmentItem")
        session = self._world.uploads.begin(self._draft(visit), visit.user, self._claims, _empty(item))
        body = {
            "@odata.context": f"{self._world.address.graph_url}/v1.0/$metadata#microsoft.graph.uploadSession",
            "uploadUrl": session.url,
            "expirationDateTime": session.expires,
            "nextExpectedRanges": [f"{session.received}-"],
        }
        return _answer(201, body, visit)


def _empty(item: dict[str, Any] | None) -> tuple[Attachment, int]:
    """The file that is announced, without content, and its size in bytes."""
    item = item or {}
    name, size = item.get("name"), item.get("size")
    if item.get("attachmentType") != "file" or not name or size is None:
        raise GraphError(
            400,
            "ErrorRequiredPropertyMissing",
            "Required property is missing: attachmentType, name and size of a file.",
        )
    if size < SMALL:
        message = "The attachment size is less than the minimum that an upload session takes, 3 MB."
        raise GraphError(400, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize", message)
    if size > LARGEST:
        message = "The attachment size exceeds the maximum of 150 MB."
        raise GraphError(400, "ErrorAttachmentSizeLimitExceeded", message)
    attachment = Attachment(
        filename=name,
        content_type=item.get("contentType") or "application/octet-stream",
        content=b"",
        content_id=item.get("contentId") or "",
        inline=bool(item.get("isInline")),
    )
    return attachment, size


def _answer(status: int, body: dict[str, Any], visit: Visit) -> Answer:
    arrival = visit.arrival
    headers = graph_headers(arrival.request_id, arrival.client_request_id)
    headers["content-type"] = "application/json;odata.metadata=minimal;odata.streaming=true;charset=utf-8"
    return Answer(status, headers, json.dumps(body).encode())
