"""Splits a MIME message into bodies and files, for mail that is too large to be sent unchanged.

This is done only if nothing is lost. A signed or encrypted message, or an invitation, would not be the same.
"""

import mimetypes
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import Message
from typing import Any, cast

from postroom.mail.fields import MANAGED_HEADERS
from postroom.mail.mime_source import Source, decoded
from postroom.mail.model import Attachment

MOST_PARTS = 100
_DEEPEST = 10
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,200}")


class Whole(Exception):
    """This message cannot be split; its argument says why."""


@dataclass(slots=True)
class Parts:
    text: str | None = None
    html: str | None = None
    files: list[Attachment] = field(default_factory=list)


def parts_of(source: bytes) -> Parts:
    """The bodies and files of the message. Raises Whole if it cannot be split."""
    # Python's parser compares each line with each boundary.
    if source.lower().count(b"boundary") > MOST_PARTS:
        raise Whole("it has too many parts")
    parts = Parts()
    try:
        for part, inside in _leaves(message_from_bytes(source, policy=policy.compat32), ()):
            _put(part, inside, parts)
    except RecursionError:
        raise Whole("it has too many parts within parts") from None
    return parts


def headers_of(message: Source) -> dict[str, str]:
    """The header fields that the mail keeps, by name. Of several fields with one name it keeps the first."""
    headers: dict[str, str] = {}
    for one in message.fields:
        known = one.name in MANAGED_HEADERS or one.name.startswith(("content-", "resent-", "arc-"))
        if not known and one.text and one.text.isprintable():
            headers.setdefault(one.name.title(), one.text)
    return headers


def _leaves(part: Message, inside: tuple[str, ...]) -> Iterator[tuple[Message, tuple[str, ...]]]:
    """The parts that contain no other parts, each with the kinds of multipart around it, from the outside in."""
    if part.defects:
        raise Whole(f"its parts cannot be told apart ({type(part.defects[0]).__name__})")
    _read_as_utf8(part)
    if part.get_content_maintype() != "multipart":
        yield part, inside
        return
    kind = part.get_content_subtype()
    if kind not in {"mixed", "alternative", "related"} or len(inside) >= _DEEPEST:
        raise Whole(f"multipart/{kind} stays whole")
    for inner in cast("list[Message]", part.get_payload()):
        yield from _leaves(inner, (*inside, kind))


def _read_as_utf8(part: Message) -> None:
    """Header fields that are not ASCII are UTF-8 (RFC 6532)."""
    for name, value in list(part.raw_items()):
        if not str(value).isascii():
            part.replace_header(name, str(value).encode("ascii", "surrogateescape").decode("utf-8", "replace"))


def _put(part: Message, inside: tuple[str, ...], parts: Parts) -> None:
    kind, named = part.get_content_type(), part.get_filename()
    if kind.startswith("application/") and "pkcs7" in kind:
        raise Whole("it is signed or encrypted (S/MIME)")
    shown = part.get_content_disposition() != "attachment" and not named
    if shown and kind == "text/plain" and parts.text is None:
        parts.text = _text(part)
    elif shown and kind == "text/html" and parts.html is None:
        parts.html = _text(part)
    elif inside[-1:] == ("alternative",):
        raise Whole(f"it has an alternative in {kind}")
    else:
        parts.files.append(_file(part, kind, named, inside, len(parts.files) + 1))


def _text(part: Message) -> str:
    charset = str(part.get_content_charset() or "utf-8")
    try:
        return _bytes(part).decode(charset)
    except (LookupError, UnicodeDecodeError):
        raise Whole(f"a body is not in the charset that it names ({charset[:40]})") from None


def _file(part: Message, kind: str, named: str | None, inside: tuple[str, ...], number: int) -> Attachment:
    name = decoded(named or f"part-{number}{mimetypes.guess_extension(kind) or '.bin'}")
    fields: dict[str, Any] = {
        "filename": "".join(one for one in name if one.isprintable())[-200:],
        "content_type": kind,
    }
    content_id = str(part.get("content-id", "")).strip().removeprefix("<").removesuffix(">")
    if _CONTENT_ID.fullmatch(content_id) and ("related" in inside or part.get_content_disposition() == "inline"):
        fields["content_id"] = content_id
    return Attachment(content=_bytes(part), **fields)


def _bytes(part: Message) -> bytes:
    if part.is_multipart():  # a forwarded message
        return cast("Message", part.get_payload(0)).as_bytes(policy=policy.compat32.clone(linesep="\r\n"))
    return cast("bytes", part.get_payload(decode=True))
