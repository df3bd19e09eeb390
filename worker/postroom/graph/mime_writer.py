"""Writes a message as MIME (RFC 5322, RFC 2045): header lines, encoded words, multiparts."""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import AnyStr
from urllib.parse import quote

from email_validator import validate_email

from postroom.mail.address import Address
from postroom.mail.fields import OUR_HEADER
from postroom.mail.message import Message
from postroom.mail.model import Attachment
from postroom.mail.priority import Importance


def address_lines(fields: Mapping[str, Sequence[Address]]) -> Iterator[str]:
    for name, addresses in fields.items():
        if addresses:
            yield f"{name.title()}: " + ",\r\n ".join(map(_mailbox, addresses))


def header_lines(message: Message) -> Iterator[str]:
    """The message's own header. Exchange adds the Date when it takes the message.

    Written out, here and below: Python's `email` has let commas and line breaks out of display names in several
    versions (CVE-2024-6923 is one), which makes other recipients of a name, and it takes ten times as long.
    """
    sender = _mailbox(message.sender)
    yield from address_lines(
        {
            "from": (message.sender,),
            "to": message.to,
            "cc": message.cc,
            "bcc": message.bcc,  # there is no other envelope: Exchange sends to it, and takes it out
            "reply-to": message.reply_to,
        }
    )
    yield unstructured("Subject", message.subject)
    yield f"Message-ID: <{ascii_address(message.message_id[1:-1])}>"
    yield f"{OUR_HEADER}: {message.job_id}"
    if message.importance is not Importance.NORMAL:
        yield f"Importance: {message.importance.value}"
    if message.read_receipt:
        yield f"Disposition-Notification-To: {sender}"
    if message.delivery_receipt:
        yield f"Return-Receipt-To: {sender}"
    for name, value in message.headers.items():
        yield unstructured(name, value)
    yield "MIME-Version: 1.0"


def _mailbox(address: Address) -> str:
    where = ascii_address(address.address)
    if not address.name:
        return where
    if _PLAIN.fullmatch(address.name) and len(address.name) <= 60:
        return f"{_quoted(address.name)}\r\n <{where}>"
    return f"{_encoded(address.name)}\r\n <{where}>"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def ascii_address(address: str) -> str:
    """A domain in ASCII (`xn--…`). A local part that is not ASCII stays: RFC 6532 has it in UTF-8, never encoded."""
    if address.isascii():
        return address
    valid = validate_email(address, check_deliverability=False, globally_deliverable=False)
    return f"{valid.local_part}@{valid.ascii_domain}"


def unstructured(name: str, value: str) -> str:
    """An unstructured header, folded at its spaces, or encoded (RFC 2047) where folding would not give it back."""
    words = value.split(" ")
    if not value:
        return f"{name}:"
    if not _PLAIN.fullmatch(value) or max(map(len, words)) > 900:
        return f"{name}: {_encoded(value)}"
    lines = [f"{name}:"]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > 76 and len(lines[-1]) > len(f"{name}:"):
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines)


# Printable ASCII with single spaces, and nothing that a reader would decode.
_PLAIN = re.compile(r"(?!.*=\?)[!-~]+( [!-~]+)*")


def _encoded(text: str) -> str:
    words = _pieces((character.encode() for character in text), 42, b"")
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in words)


def _pieces(units: Iterable[AnyStr], size: int, empty: AnyStr) -> list[AnyStr]:
    """The units put together into pieces of at most `size`; none of them is divided."""
    pieces = [empty]
    for unit in units:
        if len(pieces[-1]) + len(unit) > size:
            pieces.append(empty)
        pieces[-1] += unit
    return pieces


def body_bytes(message: Message) -> bytes:
    """mixed(alternative(text, related(html, images)), files), as far as there are such; all of it in base64."""
    inline = [a for a in message.attachments if a.content_id and message.html]
    files = [_file_part(a, "attachment") for a in message.attachments if a not in inline]
    bodies = [_body("plain", message.text or "")] if message.text or not message.html else []
    if message.html:
        images = [_file_part(a, "inline") for a in inline]
        bodies.append(_multipart("related", [_body("html", message.html), *images]))
    return _multipart("mixed", [_multipart("alternative", bodies), *files])


def _body(kind: str, text: str) -> bytes:
    with_line_ends = re.sub(r"\r\n|\r|\n", "\r\n", text)
    return _part(f"text/{kind}; charset=utf-8", with_line_ends.encode())


def _file_part(attachment: Attachment, disposition: str) -> bytes:
    # MIME forbids base64 for messages and multiparts.
    composite = attachment.mime_type.startswith(("message/", "multipart/"))
    return _part(
        "application/octet-stream" if composite else attachment.mime_type,
        attachment.read(),
        f"Content-Disposition: {disposition};\r\n {_filename(attachment.filename)}",
        *([f"Content-ID: <{attachment.content_id}>"] if attachment.content_id else []),
    )


def _filename(name: str) -> str:
    """https://www.rfc-editor.org/rfc/rfc2231: what is not plain is percent-encoded, in numbered pieces."""
    if _PLAIN.fullmatch(name) and len(name) <= 60:
        return f"filename={_quoted(name)}"
    pieces = _pieces((quote(character, safe="") for character in name), 55, "")
    pieces[0] = f"utf-8''{pieces[0]}"
    return ";\r\n ".join(f"filename*{number}*={piece}" for number, piece in enumerate(pieces))


def _part(content_type: str, data: bytes, *headers: str) -> bytes:
    head = [f"Content-Type: {content_type}", "Content-Transfer-Encoding: base64", *headers, "", ""]
    return "\r\n".join(head).encode() + base64.encodebytes(data).replace(b"\n", b"\r\n")


def _multipart(kind: str, parts: list[bytes]) -> bytes:
    if len(parts) == 1:
        return parts[0]
    boundary = f"=_{kind}"  # which no base64 contains, and each kind occurs once
    between = f"--{boundary}\r\n".encode()
    head = f'Content-Type: multipart/{kind}; boundary="{boundary}"\r\n\r\n'.encode()
    return head + b"".join(between + part for part in parts) + f"--{boundary}--\r\n".encode()
