"""A Message as the body of a request: JSON where JSON can carry it, else MIME.

https://learn.microsoft.com/graph/api/user-sendmail and https://learn.microsoft.com/graph/outlook-send-mime-message
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from typing import Any, Literal

from pydantic_core import to_json

from postroom.graph.mime_writer import address_lines, ascii_address, body_bytes, header_lines, text_line
from postroom.graph.searches import JOB_PROPERTY
from postroom.jobs.outcome import Answer, Refused
from postroom.mail import content as contents
from postroom.mail import mime_source
from postroom.mail.address import Address, normal_form
from postroom.mail.fields import OUR_HEADER, is_trace, needs_mime
from postroom.mail.message import Message, Ready
from postroom.mail.model import Attachment
from postroom.mail.priority import Importance
from postroom.mail.validation import MAX_REQUEST

JSON_LIMIT = MAX_REQUEST
# An attachment from this size on goes by an upload session; no smaller one may.
SESSION_FROM = 3_000_000
# What a draft's own request carries in attachments, as they are: in base64 they leave room for the bodies.
INSIDE_LIMIT = 1_500_000
# Below 4 MB, and of 320 KiB as OneDrive wants its ranges.
RANGE = 11 * 320 * 1024
# Larger MIME requests were answered with 200, and nothing was sent.
MIME_LIMIT = 2_200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How one request is made: its token, the id that Microsoft's support finds it by, its deadline in all.

    What `before_write` raises, directly before the first byte, comes out unchanged, and nothing was sent then.
    """

    token: str = field(repr=False)
    client_request_id: str
    deadline_s: float
    before_write: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRequest:
    """What to POST to sendMail, or to the mailbox's messages to make a draft."""

    mode: Literal["json", "mime"]
    content_type: str
    body: bytes = field(repr=False)
    left_out: str | None = None  # what of the mail is not in it, in words


NO_TEXT_BODY = "sent without its text body: MIME, which has both bodies, takes no files of this size in one request"


def request_for(message: Message) -> GraphRequest | Refused:
    """The request that carries `message`; Refused(reason="too_large") where no sendMail request can."""
    if message.ready is not None:
        return _ready_request(message, message.ready)
    only_mime = bool(needs_mime(message.headers)) or any(one.is_invitation for one in message.attachments)
    # Mail that goes as MIME is always saved, and its headers are ASCII to most readers. Where that does not do, the
    # text part gives way: Exchange makes one from the HTML.
    mime_will_do = message.save_to_sent_items and all(a.address.isascii() for a in _everybody(message))
    both_bodies = bool(message.text and message.html) and mime_will_do
    if not only_mime and not both_bodies:
        return _json_request(message)
    as_mime = _mime_request(message)
    if isinstance(as_mime, Refused) and not only_mime:
        # The same: rather without its text part than not at all.
        in_json = _json_request(message)
        return in_json if isinstance(in_json, Refused) else replace(in_json, left_out=NO_TEXT_BODY)
    return as_mime


def draft_for(message: Message) -> GraphRequest | Refused:
    """The request that makes a draft of `message`. A draft is always saved to Sent Items when it is sent."""
    request = request_for(message._replace(save_to_sent_items=True))
    if isinstance(request, Refused) or request.mode == "mime":
        return request
    return replace(request, body=_json(_resource(message)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftPlan:
    """The request that makes a draft, and the places of the attachments that do not fit into it."""

    request: GraphRequest
    to_add: tuple[int, ...]


def plan_draft(message: Message) -> DraftPlan | Refused:
    """How a draft of `message` is made: what is large, and what is too much for one request, is added to it after.

    https://learn.microsoft.com/graph/outlook-large-attachments
    """
    # In MIME, which two bodies need, attachments are in base64 twice.
    bodies = len((message.text or "").encode()) + len((message.html or "").encode())
    left = max(0, INSIDE_LIMIT // 2 - bodies) if message.text and message.html else INSIDE_LIMIT
    inside, to_add = [], []
    for place, attachment in enumerate(message.attachments):
        if attachment.is_invitation:
            inside.append(attachment)  # it is not added as a file
        elif attachment.size < SESSION_FROM and attachment.size <= left:
            inside.append(attachment)
            left -= attachment.size
        else:
            to_add.append(place)
    request = draft_for(message._replace(attachments=tuple(inside)))
    if isinstance(request, Refused) and inside:
        invitations = tuple(one for one in message.attachments if one.is_invitation)
        to_add = [place for place, one in enumerate(message.attachments) if not one.is_invitation]
        request = draft_for(message._replace(attachments=invitations))
    return request if isinstance(request, Refused) else DraftPlan(request=request, to_add=tuple(to_add))


def attachment_body(attachment: Attachment) -> bytes:
    """The body that adds an attachment of less than `SESSION_FROM` bytes to a draft, in one request."""
    return _json(_file(attachment))


def session_body(attachment: Attachment) -> bytes:
    """The body that asks for an upload session.

    https://learn.microsoft.com/graph/api/attachment-createuploadsession
    """
    inline = {"isInline": True, "contentId": attachment.content_id} if attachment.content_id else {}
    item = {"attachmentType": "file", "name": attachment.filename, "size": attachment.size, **inline}
    return _json({"AttachmentItem": {**item, "contentType": attachment.mime_type}})


def _everybody(message: Message) -> tuple[Address, ...]:
    return (message.sender, *message.to, *message.cc, *message.bcc, *message.reply_to)


def _json_request(message: Message) -> GraphRequest | Refused:
    content = _attached(message) * 4 // 3  # known before any of it is loaded
    if content > JSON_LIMIT:
        return _too_large("JSON", content, JSON_LIMIT)
    request: dict[str, Any] = {"message": _resource(message)}
    if not message.save_to_sent_items:
        request["saveToSentItems"] = False
    body = _json(request)
    if len(body) > JSON_LIMIT:
        return _too_large("JSON", len(body), JSON_LIMIT)
    return GraphRequest(mode="json", content_type="application/json", body=body)


def _json(value: dict[str, Any]) -> bytes:
    return to_json(value)  # in a quarter of the time that json takes


def _resource(message: Message) -> dict[str, Any]:
    """https://learn.microsoft.com/graph/api/resources/message, without empty lists: Graph refuses some of them."""
    headers = {**message.headers, OUR_HEADER: message.job_id}
    lists = {
        "toRecipients": [_recipient(to) for to in message.to],
        "ccRecipients": [_recipient(to) for to in message.cc],
        "bccRecipients": [_recipient(to) for to in message.bcc],
        "replyTo": [_recipient(to) for to in message.reply_to],
        "attachments": [_file(attachment) for attachment in message.attachments],
        "internetMessageHeaders": [{"name": name, "value": value} for name, value in headers.items()],
        "singleValueExtendedProperties": [{"id": JOB_PROPERTY, "value": message.job_id}],
    }
    resource: dict[str, Any] = {
        "subject": message.subject,
        "body": {"contentType": "html", "content": message.html}
        if message.html
        else {"contentType": "text", "content": message.text or ""},
        "internetMessageId": message.message_id,
        **{name: values for name, values in lists.items() if values},
    }
    if message.sender.name or message.sender.address != (message.mailbox or message.sender.address):
        # The mailbox in the URL is the sender; only a name or an alias has to be said.
        resource["from"] = _recipient(message.sender)
    if message.importance is not Importance.NORMAL:
        resource["importance"] = message.importance.value
    if message.read_receipt:
        resource["isReadReceiptRequested"] = True
    if message.delivery_receipt:
        resource["isDeliveryReceiptRequested"] = True
    return resource


def _recipient(address: Address) -> dict[str, Any]:
    name = {"name": address.name} if address.name else {}
    return {"emailAddress": {**name, "address": address.address}}


def _file(attachment: Attachment) -> dict[str, Any]:
    inline = {"isInline": True, "contentId": attachment.content_id} if attachment.content_id else {}
    return {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": attachment.filename,
        "contentType": attachment.mime_type,
        "contentBytes": base64.b64encode(attachment.read()).decode(),
        **inline,
    }


def _attached(message: Message) -> int:
    return sum(attachment.size for attachment in message.attachments)


def _too_large(kind: str, size: int, limit: int) -> Refused:
    detail = f"the mail takes {size} bytes as {kind}; Graph takes at most {limit}. Make its attachments smaller"
    return Refused(reason="too_large", answer=Answer(detail=detail))


def _mime_request(message: Message) -> GraphRequest | Refused:
    content = _attached(message) * 16 // 9  # base64, twice
    if content > MIME_LIMIT:
        return _too_large("MIME", content, MIME_LIMIT)
    head = "".join(f"{line}\r\n" for line in header_lines(message)).encode()
    body = base64.b64encode(head + body_bytes(message))
    if len(body) > MIME_LIMIT:
        return _too_large("MIME", len(body), MIME_LIMIT)
    return GraphRequest(mode="mime", content_type="text/plain", body=body)


def _ready_request(message: Message, ready: Ready) -> GraphRequest | Refused:
    size = contents.size_of(ready.source) * 4 // 3
    if size > MIME_LIMIT:
        return _too_large("MIME", size, MIME_LIMIT)
    body = base64.b64encode(_passed_on(message, ready, mime_source.parse(contents.read(ready.source))))
    if len(body) > MIME_LIMIT:
        return _too_large("MIME", len(body), MIME_LIMIT)
    return GraphRequest(mode="mime", content_type="text/plain", body=body)


def _passed_on(message: Message, ready: Ready, source: mime_source.Source) -> bytes:
    """The source as it came, under what is missing, and what must be otherwise because Exchange goes by it.

    Exchange sends to whom To, Cc and Bcc name, so where these are not exactly the message's recipients they are written
    anew. It takes no From but the mailbox's own. Of address lists that others would read otherwise it makes its own.
    """
    named = {"from": (message.sender,), "to": message.to, "cc": message.cc}
    anew = {"bcc"} | {name for name, people in named.items() if name != "from" and not _names(source, name, people)}
    if not _is_own(source, "from", ready):
        anew.add("from")
    strangers = {"sender"} if source.all("sender") and not _is_own(source, "sender", ready) else set()
    lines = [f"{OUR_HEADER}: {message.job_id}"]
    if ready.taken_in_at and not source.all("date"):
        lines.append(f"Date: {format_datetime(ready.taken_in_at)}")
    if not source.all("message-id"):
        lines.append(f"Message-ID: <{ascii_address(message.message_id[1:-1])}>")
    people = {name: addresses for name, addresses in {**named, "bcc": message.bcc}.items() if name in anew}
    lines += address_lines(people)
    if message.subject:
        anew.add("subject")
        lines.append(text_line("Subject", f"{message.subject} {source.text('subject') or ''}".rstrip()))
    head = "".join(f"{line}\r\n" for line in lines).encode()
    gone = {*anew, *strangers, OUR_HEADER, *(one.name for one in source.fields if is_trace(one.name))}
    return head + bytes(_in_ascii(source.without(gone)))


_ADDRESSES = {"from", "sender", "to", "cc", "reply-to"}
_NO_TEXT = ("content-", "mime-version", "date", "message-id", "in-reply-to", "references", "list-")


def _in_ascii(source: mime_source.Source) -> mime_source.Source:
    """The same, with encoded words (RFC 2047) for the letters that fields have as they are, in whatever charset."""
    fields = tuple(one._replace(raw=_written(one)) for one in source.fields)
    return mime_source.Source(fields, source.body)


def _written(field: mime_source.Field) -> bytes:
    before, colon, after = field.raw.partition(b":")
    name = before.decode().rstrip()  # RFC 5322, 4.5.8: some read no field where blanks stand before the colon
    if field.raw.isascii() or field.name.startswith(_NO_TEXT):
        return name.encode() + colon + after
    if field.name not in _ADDRESSES:
        return f"{text_line(name, ' '.join(field.text.split()))}\r\n".encode()
    try:
        people = [Address(one.name, Address.parse(one.address).address) for one in field.people or ()]
    except ValueError:
        return field.raw
    return "".join(f"{line}\r\n" for line in address_lines({name: people})).encode() or field.raw


def _names(source: mime_source.Source, name: str, people: Sequence[Address]) -> bool:
    """Whether this field of the source names exactly these people."""
    there = source.all(name)
    people_there = source.people(name) if len(there) < 2 and all(one.is_list for one in there) else None
    return people_there is not None and {normal_form(one.address) for one in people_there} == {
        one.lane for one in people
    }


def _is_own(source: mime_source.Source, name: str, ready: Ready) -> bool:
    """Whether this field is there and names one address, which is the mailbox's own, and is no address's name too."""
    people_there, fields = source.people(name) or [], source.all(name)
    if len(people_there) != 1 or len(fields) != 1 or not fields[0].names_one:
        return False
    return normal_form(people_there[0].address) in ready.own
