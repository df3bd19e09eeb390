"""Upload sessions: the ranges of a large attachment, PUT to a URL that needs no token because it carries one.

https://learn.microsoft.com/graph/outlook-large-attachments. What happens to a range out of order is not documented for
Outlook; here it is refused with 416, as OneDrive does, and the range that is expected.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from secrets import compare_digest, token_urlsafe
from urllib.parse import parse_qs

from postroom.sandbox.connection import Answer, Call
from postroom.sandbox.entra.tokens import Claims
from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.exchange.mailboxes import Exchange
from postroom.sandbox.exchange.message import Attachment, Message, Outgoing
from postroom.sandbox.graph.errors import graph_headers, unauthorized
from postroom.sandbox.graph.visit import Visit

UPLOADS = "/api/v2.0/AttachmentSessions/"

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(slots=True, kw_only=True)
class UploadSession:
    """One file on its way: its ranges come in order, and nothing shows in the draft before the last one is here.

    `claims` are those of the token that has begun it: they count for its ranges too.
    """

    id: str
    url: str
    secret: str
    draft: Message
    user: str
    claims: Claims
    attachment: Attachment
    size: int
    ends: float
    # Gives its bytes away without a copy, so that a large file is kept once.
    content: BytesIO = field(default_factory=BytesIO)

    @property
    def received(self) -> int:
        """How many bytes have arrived, which is where the next range must begin."""
        return self.content.tell()

    @property
    def expires(self) -> str:
        """When the session ends, as Graph writes it; progress does not extend it."""
        return datetime.fromtimestamp(self.ends, UTC).isoformat().replace("+00:00", "Z")


class Uploads:
    """All sessions that are open."""

    def __init__(self, exchange: Exchange, root: str, lifetime: float) -> None:
        self._exchange = exchange
        self._root = root
        self._lifetime = lifetime
        self._sessions: dict[str, UploadSession] = {}

    def reset(self) -> None:
        """Ends all sessions."""
        self._sessions.clear()

    def begin(self, draft: Message, user: str, claims: Claims, announced: tuple[Attachment, int]) -> UploadSession:
        """Opens a session for this file of this draft."""
        now = time.time()
        for old in [one for one in self._sessions.values() if one.ends <= now]:
            self.end(old)
        attachment, size = announced
        session_id, secret = token_urlsafe(12), token_urlsafe(32)
        session = self._sessions[session_id] = UploadSession(
            id=session_id,
            url=f"{self._root}{UPLOADS}{session_id}?authtoken={secret}",
            secret=secret,
            draft=draft,
            user=user,
            claims=claims,
            attachment=attachment,
            size=size,
            ends=now + self._lifetime,
        )
        return session

    def admit(self, call: Call) -> UploadSession | GraphError:
        """The session that this call's URL names, or why there is none."""
        if call.header(b"authorization"):
            return unauthorized("The upload URL is pre-authenticated; send no Authorization header with it.")
        session = self._sessions.get(call.path.removeprefix(UPLOADS))
        secret = parse_qs(call.scope["query_string"].decode("latin-1")).get("authtoken", [""])[0]
        if session is None or not compare_digest(session.secret.encode(), secret.encode()):
            return GraphError(404, "ErrorItemNotFound", "The upload session was not found.")
        if session.ends <= time.time():
            return GraphError(404, "ErrorItemNotFound", "The upload session has expired.")
        try:
            self._exchange.require_draft(session.draft.mailbox, session.draft.id)
        except GraphError as error:
            return error
        return session

    def end(self, session: UploadSession) -> None:
        """Ends the session. What it has received is dropped, unless the file was complete."""
        self._sessions.pop(session.id, None)


class UploadRange:
    """Receives one range of the file. With the last one the file becomes an attachment of the draft."""

    stage = "upload"
    method = "PUT"

    def __init__(self, uploads: Uploads, session: UploadSession | GraphError) -> None:
        self._uploads = uploads
        self._session = session
        self._body = b""

    def read(self, visit: Visit, body: bytes) -> Outgoing:
        """The draft's mail."""
        if isinstance(self._session, GraphError):
            raise self._session
        self._body = body
        return self._session.draft.mail

    def allow(self, claims: Claims, visit: Visit) -> None:
        """Allows everybody: who has the URL needs no token."""

    def perform(self, visit: Visit) -> Answer:
        """An answer that names the next range, or the attachment once the file is complete."""
        mail = visit.mail_or_error()
        session = self._still_open(visit)
        headers = graph_headers(visit.arrival.request_id, visit.arrival.client_request_id)
        begin, end = _range(visit.call.header(b"content-range"), len(self._body), session.size)
        if begin != session.received:
            message = f"The range begins at {begin}; NextExpectedRanges: {session.received}-."
            raise GraphError(416, "ErrorInvalidRange", message)
        session.content.write(self._body)
        if end + 1 < session.size:
            progress = {"ExpirationDateTime": session.expires, "NextExpectedRanges": [str(session.received)]}
            headers["content-type"] = "application/json"
            return Answer(200, headers, json.dumps(progress).encode())
        attachment = session.attachment
        attachment.content = session.content.getvalue()
        mail.attach(attachment)
        self._uploads.end(session)
        messages = f"Users('{session.user}')/Messages('{session.draft.id}')"
        return Answer(201, headers | {"location": f"/api/v2.0/{messages}/Attachments('{attachment.id}')"})

    def _still_open(self, visit: Visit) -> UploadSession:
        # Asked again: another request may have ended the session while this one was on its way.
        session = self._uploads.admit(visit.call)
        if isinstance(session, GraphError):
            raise session
        return session


class CancelUpload(UploadRange):
    """Ends a session before its file is complete."""

    method = "DELETE"

    def perform(self, visit: Visit) -> Answer:
        """Ends the session and drops what it has received."""
        self._uploads.end(self._still_open(visit))
        return Answer(204, graph_headers(visit.arrival.request_id, visit.arrival.client_request_id))


def _range(header: str, length: int, size: int) -> tuple[int, int]:
    found = _RANGE.fullmatch(header)
    if found is None:
        message = "The Content-Range header is missing or invalid: 'bytes {first}-{last}/{size}'."
        raise GraphError(400, "ErrorInvalidRange", message)
    begin, end, total = map(int, found.groups())
    if end - begin + 1 != length or total != size or end >= size:
        message = f"The Content-Range '{header}' does not fit a body of {length} bytes of a file of {size}."
        raise GraphError(400, "ErrorInvalidRange", message)
    return begin, end
