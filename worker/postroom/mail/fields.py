"""The types of a mail's fields: how each is read, checked, and written as JSON."""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    WithJsonSchema,
)

from postroom.mail import content
from postroom.mail.address import CONTROL, Address, split_list
from postroom.mail.content import Content, File, Stored
from postroom.mail.json_text import DEEPEST, TOO_DEEP

OUR_HEADER = "x-postroom-job"
MOST_HEADERS = 100
# These are set by fields of the mail, by Postroom or by Exchange. Another one would be refused, or would mislead.
MANAGED_HEADERS = {
    "from", "sender", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "mime-version",
    "importance", "disposition-notification-to", "return-receipt-to", OUR_HEADER,
}  # fmt: skip
# What servers write on a message's way, and signatures over what is sent otherwise than it came.
_TRACES = {
    "received", "received-spf", "return-path", "delivered-to", "authentication-results", "dkim-signature",
    "domainkey-signature",
}  # fmt: skip
_TRACE_FAMILIES = ("resent-", "arc-", "x-ms-exchange-", "x-microsoft-", "x-forefront-")
_LONGEST_LIST = 500_000  # characters: 500 recipients with long names
_USUAL = 320  # characters of an address with its name; longer ones are not cached
_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 section 3.6.8 (ftext)
# RFC 2045, 5.1. No two of its parts begin alike, so it takes no time.
_PARAMETER = r"""[ \t]*;[ \t]*[A-Za-z0-9!#$&^_.+*'-]+=(?:"[^"\\\r\n]*"|[A-Za-z0-9!#$%&^_.+*'/:-]+)"""
_CONTENT_TYPE = re.compile(rf"[A-Za-z0-9_.+-]+/[A-Za-z0-9_.+-]+(?:{_PARAMETER})*[ \t]*;?")
_NOT_IN_TEXT = bytes(code for code in range(0x20) if chr(code) not in "\t\n\r")
_WITHOUT_THEM = bytes.maketrans(_NOT_IN_TEXT, b" " * len(_NOT_IN_TEXT))


_known_sender = lru_cache(maxsize=1000)(Address.parse)


def _sender(value: object) -> Address:
    """Reads a sender's address. There are few senders, so the result is cached."""
    return _known_sender(value) if type(value) is str and len(value) <= _USUAL else Address.parse(value)


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _address_list(value: object) -> object:
    """The addresses of a text, or of a list whose items may be lists themselves, as headers and columns have them."""
    if isinstance(value, Address):
        return [value]
    if isinstance(value, str):
        if len(value) > _LONGEST_LIST:
            raise ValueError(f"a list of addresses has at most {_LONGEST_LIST} characters")
        return split_list(value) or [value]
    if isinstance(value, list | tuple) and any(type(one) is str and ("," in one or ";" in one) for one in value):
        return [part for one in value for part in (_address_list(one) if type(one) is str else [one])]  # type: ignore[attr-defined]
    return value


def _one_line(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("line breaks and control characters are not allowed here")
    return text


def _readable(text: str) -> str:
    # XML cannot carry control characters, and Exchange refuses what it cannot store. (A regular expression would take
    # five times as long as this.)
    data = _encoded(text)
    if data.translate(_WITHOUT_THEM) != data:
        raise ValueError("control characters are not allowed here")
    return text


def _variables(values: dict[str, Any]) -> Any:
    return _json(values, DEEPEST)


def _json(value: Any, levels: int) -> Any:
    """A copy of a JSON value, so that only the mail has it. pydantic's JsonValue takes four times as long."""
    if not levels:
        raise ValueError(TOO_DEEP)
    match value:
        case None | bool() | int():
            return value
        case str():
            return _text(value)
        case float() if isfinite(value):
            return value
        case float():
            raise ValueError("Out of range float values are not JSON compliant")
        case dict() if all(isinstance(name, str) for name in value):
            return {_text(name): _json(one, levels - 1) for name, one in value.items()}
        case list():
            return [_json(one, levels - 1) for one in value]
        case _:
            raise ValueError(f"not a JSON value ({type(value).__name__})")


def _text(value: str) -> str:
    _encoded(value)
    return value


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair is no text") from None


def _content(value: object) -> Content:
    match value:
        case bytes() | File() | Stored():
            return value
        case bytearray():
            return bytes(value)
        case Path():
            return File.at(value)
        case str():
            try:
                return base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                raise ValueError("a str here is read as base64 and this is none; pass bytes") from None
        case _:
            raise ValueError(f"bytes, base64 or a pathlib.Path is needed, not {type(value).__name__}")


def _content_as_json(value: Content, info: SerializationInfo) -> str | dict[str, str | int]:
    if info.context and "mark" in info.context:
        return str(info.context["mark"])
    return value.to_json() if isinstance(value, Stored) else base64.b64encode(content.read(value)).decode()


def _check_header(name: str, value: str) -> None:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no header name")
    if name.lower() in MANAGED_HEADERS or name.lower().startswith("content-"):
        raise ValueError(f"{name} is set by Postroom or by a field of the mail")
    if is_trace(name.lower()):
        raise ValueError(f"{name} is written by servers that pass a message on; a new mail has none")
    try:
        _one_line(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def is_trace(name: str) -> bool:
    """Whether a header field of this name, in lower case, tells of a message's way here: none of it goes on."""
    return name in _TRACES or name.startswith(_TRACE_FAMILIES)


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        _check_header(name, value)
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("the same header twice (names do not differ by case)")
    return headers


def needs_mime(headers: Mapping[str, str]) -> list[str]:
    """The names of headers that Graph's JSON cannot carry: it takes four `x-` headers beside ours, in ASCII."""
    foreign = [name for name, value in headers.items() if not name.lower().startswith("x-") or not value.isascii()]
    return foreign or (sorted(headers) if len(headers) > 4 else [])


def _a_content_type(value: str) -> str:
    if len(value) > 255 or not value.isascii() or not _CONTENT_TYPE.fullmatch(value):
        raise ValueError(f"{value[:80]!r} is no content type (type/subtype, or type/subtype; name=value)")
    return value


def in_reach(time: datetime) -> datetime:
    """The same time; ValueError if some zone has no such day."""
    if not 1 < time.year < 9999:
        raise ValueError("a time that no calendar reaches")
    return time


# For programs that make requests from the schema. Postroom takes more addresses: letters and domains of all scripts.
_WORD = "[A-Za-z0-9\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]+"
_AN_ADDRESS = rf"{_WORD}([._+-]{_WORD})*@([A-Za-z0-9]+(-[A-Za-z0-9]+)*\.)+[A-Za-z]{{2,}}"
_ADDRESS_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": f'^({_AN_ADDRESS}|[^<>",;:@]*<{_AN_ADDRESS}>|"[^"]*" *<{_AN_ADDRESS}>)$',
    "examples": ["Ann Lee <ann@contoso.com>"],
}
_AS_TEXT = (PlainSerializer(str, return_type=str), WithJsonSchema(_ADDRESS_SCHEMA))
AnAddress = Annotated[Address, BeforeValidator(Address.parse), *_AS_TEXT]
ASender = Annotated[Address, BeforeValidator(_sender), *_AS_TEXT]
Addresses = Annotated[
    tuple[AnAddress, ...],
    BeforeValidator(_address_list),
    WithJsonSchema({"anyOf": [_ADDRESS_SCHEMA, {"type": "array", "items": _ADDRESS_SCHEMA}]}),
]
_LINE = Field(json_schema_extra={"pattern": "^[^\\u0000-\\u0008\\u000a-\\u001f\\u007f\\u0085\\u2028\\u2029]*$"})
_TEXT = Field(json_schema_extra={"pattern": "^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f]*$"})
Line = Annotated[str, _LINE, AfterValidator(_one_line)]
Text = Annotated[str, _TEXT, AfterValidator(_readable)]
Name = Annotated[str, Field(min_length=1, max_length=200), _LINE, AfterValidator(_one_line)]
AContent = Annotated[
    Content,
    PlainValidator(_content),
    PlainSerializer(_content_as_json, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
ATime = Annotated[AwareDatetime, AfterValidator(in_reach)]
ContentType = Annotated[str, AfterValidator(_a_content_type)]
Variables = Annotated[dict[str, Any], AfterValidator(_variables)]
Headers = Annotated[dict[str, str], Field(max_length=MOST_HEADERS), AfterValidator(_headers)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_one_or_many)]
