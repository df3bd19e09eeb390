"""Reads a mail in MIME: a whole RFC 5322 message in base64. Its To, Cc and Bcc are the envelope."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message as Parsed
from email.utils import getaddresses
from typing import cast

from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.exchange.message import Address, Attachment, Outgoing
from postroom.sandbox.graph.edm import decode_base64
from postroom.sandbox.graph.json_mail import check_recipients

# A quoted name or a comment, and what a name has only there: https://www.rfc-editor.org/rfc/rfc5322#section-3.2.3
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*+"|\((?:\\.|[^()\\])*+\)')
_NO_PHRASE = re.compile(r'[()<>\[\]:;@\\,"]')


def read_mime_mail(body: bytes, *, complete: bool = True) -> Outgoing:
    """The mail in a body of type text/plain. Only a `complete` one must have recipients. Raises GraphError."""
    try:
        source = decode_base64(body)
    except ValueError:
        source = b""
    if not source:
        message = "Invalid base64 string for MIME content."
        raise GraphError(400, "ErrorMimeContentInvalidBase64String", message)
    # compat32 reads what is there; the modern policy raises on much of what a hostile mail can hold.
    try:
        parsed = message_from_bytes(source, policy=policy.compat32)
        if not parsed.keys():
            raise GraphError(400, "ErrorMimeContentInvalid", "The MIME content is invalid: it has no headers.")
        mail = _outgoing(parsed, source)
    except RecursionError:
        raise GraphError(400, "ErrorMimeContentInvalid", "The MIME content is invalid: nested too deeply.") from None
    if complete:
        check_recipients(mail.recipients())
    return mail


def _outgoing(parsed: Parsed, source: bytes) -> Outgoing:
    to, cc, bcc = (_people(parsed, name) for name in ("to", "cc", "bcc"))
    author = [_odd_author(parsed)] if _odd_author(parsed) else _people(parsed, "from")
    html, text, attachments = _parts(parsed)
    return Outgoing(
        form="mime",
        source=source,
        subject=_decoded(parsed.get("subject")),
        to=to,
        cc=cc,
        bcc=bcc,
        reply_to=_people(parsed, "reply-to"),
        author=author[0] if author else None,
        html=html,
        text=text,
        # Exchange takes Bcc off the copy that is delivered.
        headers=[(name, _decoded(value)) for name, value in parsed.items() if name.casefold() != "bcc"],
        attachments=attachments,
        message_id=_decoded(parsed.get("message-id")).strip(),
        importance=_decoded(parsed.get("importance", "normal")).strip().casefold(),
    )


def _people(parsed: Parsed, name: str) -> list[Address]:
    values = [str(value).replace("\r\n", " ").replace("\n", " ") for value in parsed.get_all(name, [])]
    found = getaddresses(values)
    return [Address(_decoded(person), address) for person, address in found if person or address]


def _odd_author(parsed: Parsed) -> Address | None:
    """What stands for the author where the From is no mailbox of RFC 5322. Exchange takes it for another's address."""
    value = str(parsed.get("from", "")).replace("\r\n", " ").replace("\n", " ")
    name, opened, _ = value.rpartition("<")
    return Address("", value) if opened and _NO_PHRASE.search(_QUOTED.sub("", name)) else None


def _decoded(value: object) -> str:
    if value is None:
        return ""
    text = str(value).replace("\r\n", "").replace("\n", "")
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return text


def _parts(parsed: Parsed) -> tuple[str | None, str | None, list[Attachment]]:
    html: str | None = None
    text: str | None = None
    attachments: list[Attachment] = []
    for part in _leaves(parsed):
        kind = part.get_content_type()
        disposition = (part.get_content_disposition() or "").casefold()
        is_body = disposition != "attachment" and not part.get_filename()
        if is_body and kind == "text/html" and html is None:
            html = _text(part)
        elif is_body and kind == "text/plain" and text is None:
            text = _text(part)
        else:
            attachments.append(_attachment(part, kind, disposition))
    return html, text, attachments


def _leaves(part: Parsed) -> Iterator[Parsed]:
    # Not `walk`: it goes on into a forwarded message, which is one attachment here.
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for inner in part.get_payload():
            yield from _leaves(cast("Parsed", inner))
    else:
        yield part


def _text(part: Parsed) -> str:
    content = _content(part)
    try:
        return content.decode(str(part.get_content_charset() or "utf-8"), "replace")
    except LookupError:
        return content.decode("latin-1")


def _content(part: Parsed) -> bytes:
    if part.is_multipart():
        try:
            return cast("Parsed", part.get_payload(0)).as_bytes()
        except (LookupError, ValueError):
            return b""
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _attachment(part: Parsed, kind: str, disposition: str) -> Attachment:
    content_id = _decoded(part.get("content-id")).strip().strip("<>")
    return Attachment(
        filename=_decoded(part.get_filename()) or "unnamed",
        content_type=kind,
        content=_content(part),
        content_id=content_id,
        inline=disposition == "inline" or (bool(content_id) and disposition != "attachment"),
    )
