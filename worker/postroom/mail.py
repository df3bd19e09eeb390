"""A Mail: what a producer asks to have sent. One that exists can be sent, as far as its form goes.

The rules come from Graph's message resource and Exchange Online's limits:
https://learn.microsoft.com/graph/api/resources/message and
https://learn.microsoft.com/office365/servicedescriptions/exchange-online-service-description/exchange-online-limits
"""

import base64
import binascii
import json
import mimetypes
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from email.header import decode_header, make_header
from enum import StrEnum
from functools import cache, lru_cache
from hashlib import sha256
from json.encoder import encode_basestring
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import from_json, to_json

from postroom import content as contents
from postroom import mime as sources
from postroom.content import Content, File, Source, Stored
from postroom.errors import InvalidMail

MAX_RECIPIENTS = 500
MB = 1024 * 1024
# A whole mail: what Exchange Online lets a mailbox send unless its administrator raised it, and the most it can be.
MAX_MESSAGE = 35 * MB
LARGEST_MESSAGE = 150 * MB
# The source of a mail that came as MIME: in base64, with what is added to its header, it must fit into a request.
MAX_MIME = 1_600_000
OUR_HEADER = "x-postroom-job"
MOST_UNKNOWN = 20
MOST_ENTRIES = 1000  # of any list or table in a mail
MOST_HEADERS = 100

# Set by a field of the mail, by Postroom or by Exchange; a second one would be refused or mislead.
MANAGED_HEADERS = {
    "from", "sender", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "mime-version",
    "received", "return-path", "dkim-signature", "importance", "disposition-notification-to",
    "return-receipt-to", OUR_HEADER,
}  # fmt: skip
_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 section 3.6.8 (ftext)
_CONTENT_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")
# email-validator refuses these endings, but an organisation's own domain may have one; it is checked under a stand-in.
_PRIVATE = re.compile(r"(@(?:[^@<>]*\.)?(?:arpa|invalid|local|localhost|onion|test))$", re.IGNORECASE)
_STAND_IN = ".stand-in.example.com"
# Half a surrogate pair, as a careless cut through an emoji leaves it, is JSON but no text.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
_NOT_IN_TEXT = bytes(code for code in range(0x20) if chr(code) not in "\t\n\r")
_WITHOUT_THEM = bytes.maketrans(_NOT_IN_TEXT, b" " * len(_NOT_IN_TEXT))
_LONG = 500
_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
# Most addresses: email-validator takes them as they are but for the case of the domain, and takes ten times as long.
_LABEL = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"(?=.{{3,100}}$)(?=.{{1,64}}@)([A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*)@({_LABEL}(?:\.{_LABEL})*)")
# Except these, which it writes in small letters (RFC 2142).
_SMALL = {
    "info", "marketing", "sales", "support", "abuse", "noc", "security", "postmaster", "hostmaster", "usenet", "news",
    "webmaster", "www", "uucp", "ftp",
}  # fmt: skip


class Priority(StrEnum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Importance(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class Address(str):
    """An address with an optional display name, as one string: `ann@contoso.com` or `Ann Lee <ann@contoso.com>`."""

    __slots__ = ("address", "name")
    name: str
    address: str

    def __new__(cls, name: str, address: str) -> Self:
        if name:
            quoted = name.replace("\\", "\\\\").replace('"', '\\"')
            self = super().__new__(cls, f'"{quoted}" <{address}>')
        else:
            self = super().__new__(cls, address)
        self.name, self.address = name, address
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.name, self.address)

    @classmethod
    def parse(cls, text: object) -> Self:
        """The address in `text`; ValueError says what is wrong with it.

        The domain may be one that is not public (`ann@corp.local`): Exchange knows such domains.
        """
        if isinstance(text, cls):
            return text
        if not isinstance(text, str):
            raise ValueError(f"an address is a string, not {type(text).__name__}")
        if plain := _plain(text):
            return cls("", plain)
        if _CONTROL.search(text):
            raise ValueError("line breaks and control characters have no place in an address")
        name, address = _name_and_address(text.strip())
        return cls(name, _checked(address))

    @property
    def lane(self) -> str:
        """The address in the form that lanes and indexes compare."""
        return self.address.casefold()


def _checked(address: str) -> str:
    """The address in the one form that what Graph, MIME and our own lanes compare has: its domain in ASCII."""
    return _plain(address) or _validated(address)


def _plain(address: str) -> str | None:
    """The same for most addresses; None for others, and for what is none."""
    plain = _PLAIN.fullmatch(address)
    return f"{plain[1]}@{plain[2].lower()}" if plain and plain[1].lower() not in _SMALL else None


def _validated(address: str) -> str:
    """The same for any address, by email-validator. ValueError if it is none."""
    # Few addresses need it, and it takes as long to import as half of this module.
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415

    public = _PRIVATE.sub(rf"\1{_STAND_IN}", address)
    try:
        found = validate_email(public, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError as error:
        raise ValueError(f"not an address: {error}") from None
    return f"{found.local_part}@{found.ascii_domain.removesuffix(_STAND_IN)}"


def _name_and_address(text: str) -> tuple[str, str]:
    """`Name <address>` in its parts. A name may be plain, quoted, or encoded as in a header (RFC 2047)."""
    before, opened, rest = text.rpartition("<")
    if not opened or not rest.endswith(">"):
        return "", text
    name = before.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    if "=?" in name:
        name = str(make_header(decode_header(name)))
    if _CONTROL.search(name):
        raise ValueError("line breaks and control characters have no place in an address")
    return name, rest[:-1].strip()


_known_sender = lru_cache(maxsize=1000)(Address.parse)


def _sender(value: object) -> Address:
    """The same for a sender: there are few, and each is read once."""
    return _known_sender(value) if type(value) is str else Address.parse(value)


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("line breaks and control characters are not allowed here")
    return text


def _readable(text: str) -> str:
    # XML cannot carry them, and Exchange refuses what it cannot store. (In bytes: a regex takes five times as long.)
    data = _encoded(text)
    if data.translate(_WITHOUT_THEM) != data:
        raise ValueError("control characters are not allowed here")
    return text


def _variables(values: dict[str, Any]) -> Any:
    try:
        return _json(values)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _json(value: Any) -> Any:
    """A copy of it, for the mail is its own. In one walk: pydantic's JsonValue takes four times as long."""
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
            return {_text(name): _json(one) for name, one in value.items()}
        case list():
            return [_json(one) for one in value]
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
    return value.to_json() if isinstance(value, Stored) else base64.b64encode(contents.read(value)).decode()


def _header(item: tuple[str, str]) -> tuple[str, str]:
    name, value = item
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no header name")
    if name.lower() in MANAGED_HEADERS or name.lower().startswith("content-"):
        raise ValueError(f"{name} is set by Postroom or by a field of the mail")
    try:
        return name, _one_line(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for item in headers.items():
        _header(item)
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("the same header twice (names do not differ by case)")
    return headers


def _a_content_type(value: str) -> str:
    if not _CONTENT_TYPE.fullmatch(value):
        raise ValueError(f"{value!r} is no content type (type/subtype)")
    return value


# For who makes requests from the schema. More is an address: letters of all scripts, and domains of them.
_WORD = "[A-Za-z0-9\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]+"
_AN_ADDRESS = rf"{_WORD}([._+-]{_WORD})*@([A-Za-z0-9]+(-[A-Za-z0-9]+)*\.)+[A-Za-z]{{2,}}"
_ADDRESS_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": f'^({_AN_ADDRESS}|[^<>"]*<{_AN_ADDRESS}>|"[^"]*" *<{_AN_ADDRESS}>)$',
    "examples": ["Ann Lee <ann@contoso.com>"],
}
_AS_TEXT = (PlainSerializer(str, return_type=str), WithJsonSchema(_ADDRESS_SCHEMA))
AnAddress = Annotated[Address, BeforeValidator(Address.parse), *_AS_TEXT]
ASender = Annotated[Address, BeforeValidator(_sender), *_AS_TEXT]
Addresses = Annotated[
    tuple[AnAddress, ...],
    BeforeValidator(_one_or_many),
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


# What a mail's own source says, so that no field may say it too.
_IN_MIME = (
    "subject", "text", "html", "template", "variables", "locale", "attachments", "headers", "reply_to", "importance",
    "read_receipt", "delivery_receipt",
)  # fmt: skip


class Attachment(BaseModel):
    """A file that travels with the mail. With a `content_id` it is an inline image: `<img src="cid:…">`.

    `content` is bytes, or a `pathlib.Path`: that file is read piece by piece when the mail is taken in, and must stay
    as it is until then. A str is read as base64, as in JSON. `content_type` is guessed from the name if missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, defer_build=True)

    filename: Name
    content: AContent
    content_type: Annotated[str, AfterValidator(_a_content_type)] | None = None
    content_id: Annotated[str, Field(pattern=r"^[!-;=?-~]+$", max_length=200)] | None = None

    def __init__(
        self,
        filename: str,
        content: bytes | str | Path,
        content_type: str | None = None,
        content_id: str | None = None,
        **unknown: object,
    ) -> None:
        given = {"content_type": content_type, "content_id": content_id}
        super().__init__(
            filename=filename, content=content, **{k: v for k, v in given.items() if v is not None}, **unknown
        )

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return contents.size_of(self.content)

    def read(self, begin: int = 0, end: int | None = None) -> bytes:
        """Its bytes from `begin` to before `end`; all of them by default. What is raised: see `postroom.content`."""
        return contents.read(self.content, begin, end)

    @property
    def mime_type(self) -> str:
        return self.content_type or mimetypes.guess_type(self.filename)[0] or "application/octet-stream"


class Mail(BaseModel):
    """What a producer asks to have sent. Raises InvalidMail, which names every fault at once.

    Bodies are either `template` + `variables` or `html`/`text`. A `subject` beside a template wins over the template's.
    Or `mime` is the source of the whole message, and is passed on as it is: `to`, `cc` and `bcc` say who gets it.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        defer_build=True,  # until there is a first mail: it is a fifth of what `import postroom` would cost
    )

    sender: ASender | None = Field(
        default=None, validation_alias=AliasChoices("from", "sender"), serialization_alias="from"
    )
    to: Addresses = ()
    cc: Addresses = ()
    bcc: Addresses = ()
    reply_to: Addresses = ()
    subject: Line | None = None
    text: Text | None = None
    html: Text | None = None
    template: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")] | None = None
    variables: Annotated[dict[str, Any], AfterValidator(_variables)] = Field(default_factory=dict)
    locale: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$")] | None = None
    attachments: tuple[Attachment, ...] = ()
    mime: AContent | None = None
    headers: Annotated[dict[str, str], Field(max_length=MOST_HEADERS), AfterValidator(_headers)] = Field(
        default_factory=dict
    )
    importance: Importance = Importance.NORMAL
    priority: Priority = Priority.NORMAL
    scheduled_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    save_to_sent_items: bool = True
    read_receipt: bool = False
    delivery_receipt: bool = False
    tags: Annotated[tuple[Name, ...], BeforeValidator(_one_or_many), Field(max_length=20)] = ()
    metadata: Annotated[dict[Name, Annotated[Line, Field(max_length=500)]], Field(max_length=20)] = Field(
        default_factory=dict
    )

    @model_validator(mode="wrap")
    @classmethod
    def _name_every_fault(cls, values: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(values, cls):
            return values
        if not isinstance(values, Mapping):
            raise InvalidMail(f"a mail is an object with fields, not {type(values).__name__}")
        if faults := _far_too_much(values, _known()):
            raise InvalidMail(faults)
        faults = _contradictions(values)
        try:
            mail = build(dict(values))
        except ValidationError as error:
            raise InvalidMail([*_field_faults(error), *faults]) from None
        if faults := [*faults, *_too_much(mail)]:
            raise InvalidMail(faults)
        return mail

    @property
    def recipients(self) -> tuple[Address, ...]:
        return (*self.to, *self.cc, *self.bcc)

    def with_sender(self, default: Address | None) -> "Mail":
        """This mail with its sender filled in; InvalidMail if there is none to fill in."""
        if self.sender is not None:
            return self
        if default is None:
            raise InvalidMail("sender: missing, and no default sender is set (POSTROOM_SENDER)")
        return self.model_copy(update={"sender": default})

    @property
    def size(self) -> int:
        """Bytes that the mail takes, counted as Exchange does: attachments in base64, a third larger than they are."""
        if self.mime is not None:
            return contents.size_of(self.mime)
        bodies = _bytes_of(self.text) + _bytes_of(self.html)
        return bodies + sum([_in_base64(attachment.size) for attachment in self.attachments])

    @property
    def format(self) -> int:
        """What a worker must understand to send this mail, so that an older one leaves it alone: FORMAT in base.lua."""
        return 1 if self.mime is None else 2

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to do about it but to post it: bodies that are ready, in one request of JSON."""
        return not (
            self.template or self.attachments or self.mime is not None or self.headers or (self.text and self.html)
        )

    @property
    def enclosed(self) -> tuple[Content, ...]:
        """What may be kept apart from this mail: its files, or its source."""
        return (self.mime,) if self.mime is not None else tuple([a.content for a in self.attachments])

    def with_contents(self, stored: Mapping[int, Stored]) -> "Mail":
        """This mail with stored content in place of what is `enclosed`, at these places."""
        if self.mime is not None:
            return self.model_copy(update={"mime": stored.get(0, self.mime)})
        attachments = tuple(
            attachment.model_copy(update={"content": stored[place]}) if place in stored else attachment
            for place, attachment in enumerate(self.attachments)
        )
        return self.model_copy(update={"attachments": attachments})

    def to_fields(self, **context: str) -> dict[str, Any]:
        """The fields that were set, as JSON has them. With a `mark`, that stands for what attachments hold."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True, context=context)

    def to_texts(self, **context: str) -> dict[str, str]:
        """The same, the value of each as a text that equal ones share."""
        texts: dict[str, str] = {}
        values = self.__dict__
        for name in self.model_fields_set:  # pydantic takes twice as long where all are usual ones
            value = values[name]
            if isinstance(value, str):
                texts["from" if name == "sender" else name] = as_json(value)
            elif name in _ADDRESSES:
                texts[name] = "[" + ",".join([as_json(one) for one in value]) + "]"
            else:
                return {name: as_json(value) for name, value in self.to_fields(**context).items()}
        return texts

    def to_json(self, **context: str) -> str:
        """All of them as one text; `from_json` reads it."""
        return joined(self.to_texts(**context))

    def digest(self, text: str | None = None) -> str:
        """SHA-256 of the mail in JSON, with all content in it, wherever that is kept and without loading it whole.

        `text` is that JSON where nothing is enclosed, for whoever needs both.
        """
        if text is not None:
            return sha256(text.encode()).hexdigest()
        mark = uuid.uuid4().hex
        between = self.to_json(mark=mark).split(mark)
        hashed = sha256(between[0].encode())
        for content, following in zip(self.enclosed, between[1:], strict=True):
            for piece in contents.pieces(content):
                hashed.update(base64.b64encode(piece))
            hashed.update(following.encode())
        return hashed.hexdigest()

    @classmethod
    def from_json(cls, text: str | bytes, source: Source | None = None) -> "Mail":
        """The mail that `to_json` wrote, perhaps in a newer version: fields not known here are left out.

        `source` is where its stored content is read from, when it is.
        """
        values = json.loads(text)
        # Here and nowhere else: a producer that could name stored content might name another mail's.
        for attachment in values.get("attachments", ()):
            if isinstance(attachment["content"], dict):
                attachment["content"] = Stored.from_json(attachment["content"], source)
        if isinstance(values.get("mime"), dict):
            values["mime"] = Stored.from_json(values["mime"], source)
        known = _known()
        return cls.model_validate({name: value for name, value in values.items() if name in known})

    @classmethod
    def of_job(cls, text: str | bytes, source: Source | None = None) -> "Mail":
        """The same of a mail that was taken in: the usual fields are not checked once more."""
        usual = _usual(from_json(text))  # in half the time that json takes
        return _blank().model_copy(update=usual) if usual else cls.from_json(text, source)


_TEXTS = {"subject", "html", "text", "template", "locale"}
_ADDRESSES = {"to", "cc", "bcc", "reply_to"}


def _usual(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a mail, where all are usual ones and of their kind; else nothing."""
    usual: dict[str, Any] = {}
    for name, value in values.items():
        if name in _TEXTS and isinstance(value, str):
            usual[name] = value
        elif name in _ADDRESSES and isinstance(value, list) and all(isinstance(one, str) for one in value):
            usual[name] = tuple([_stored_address(one) for one in value])
        elif name == "from" and isinstance(value, str):
            usual["sender"] = _stored_address(value)
        elif name == "variables" and isinstance(value, dict):
            usual[name] = value
        else:
            return {}
    return usual if usual.keys() & {"html", "text", "template"} and usual.keys() & {"to", "cc", "bcc"} else {}


def _stored_address(text: str) -> Address:
    return Address(*_name_and_address(text)) if text.endswith(">") else Address("", text)


@cache
def _blank() -> Mail:
    return Mail.model_construct()


@cache
def _known() -> frozenset[str]:
    return frozenset({*Mail.model_fields, "from"})


def as_json(value: object) -> str:
    """A mail's field as a text that equal ones share."""
    if not isinstance(value, str):
        return _JSON.encode(value)
    # pydantic writes a long text as json does, in half the time.
    return to_json(value).decode() if len(value) > _LONG else encode_basestring(value)


def joined(fields: Mapping[str, str]) -> str:
    """The JSON object of these fields."""
    return "{" + ",".join([f'"{name}":{fields[name]}' for name in sorted(fields)]) + "}"


def needs_mime(headers: Mapping[str, str]) -> list[str]:
    """The headers that Graph's JSON cannot carry (only four `x-` of the sender's own fit beside ours, in ASCII)."""
    foreign = [name for name, value in headers.items() if not name.lower().startswith("x-") or not value.isascii()]
    return foreign or (sorted(headers) if len(headers) > 4 else [])


def too_large(size: int, most: int) -> str:
    """What is wrong with a mail of `size` bytes where only `most` may be sent."""
    return (
        f"attachments: the mail takes {size / MB:.1f} MB as Exchange counts, which adds a third to attachments; "
        f"at most {most / MB:.1f} MB are allowed (POSTROOM_MAX_MESSAGE)"
    )


def _bytes_of(text: str | None) -> int:
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode())


def _in_base64(size: int) -> int:
    return -(-size // 3) * 4


_LISTED = (list, tuple, dict)


def _far_too_much(values: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    """What no mail has, so that telling all that is wrong with it would take longer than it took to send."""
    unknown = [] if known.issuperset(values) else values.keys() - known
    faults = [f"{len(unknown)} fields that there are not; this is no mail"] if len(unknown) > MOST_UNKNOWN else []
    for name, value in values.items():
        if isinstance(value, _LISTED) and len(value) > MOST_ENTRIES and name in known and name != "variables":
            faults.append(f"{name}: {len(value)} entries; at most {MOST_ENTRIES} are read")
    return faults


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """Faults between fields, told from the values as they were given, so that they show beside faults in fields."""
    faults = []
    recipients = sum([len(_listed(values[field])) for field in ("to", "cc", "bcc") if field in values])
    if not recipients:
        faults.append("to: no recipient (give at least one in to, cc or bcc)")
    if recipients > MAX_RECIPIENTS:
        faults.append(f"to: {recipients} recipients; Exchange takes at most {MAX_RECIPIENTS} in one mail")
    faults += _two_contents(values)
    if "scheduled_at" in values and "expires_at" in values:
        scheduled, expires = _as_datetime(values["scheduled_at"]), _as_datetime(values["expires_at"])
        if scheduled and expires and expires <= scheduled:
            faults.append("expires_at: not after scheduled_at, so this mail could never be sent")
    if "from" in values and "sender" in values:
        faults.append("sender: given twice, as from and as sender")
    return faults


def _two_contents(values: Mapping[str, Any]) -> list[str]:
    if values.get("mime") is not None:
        others = [name for name in _IN_MIME if values.get(name)]
        return [f"mime: given together with {', '.join(others)}, which the source has itself"] if others else []
    bodies = [body for body in ("html", "text") if values.get(body)]
    if values.get("template"):
        both = f"template: given together with {' and '.join(bodies)}; give either a template or ready bodies"
        return [both] if bodies else []
    faults = [] if bodies else ["template: no content (give a template, html or text, or mime)"]
    if values.get("variables"):
        faults.append("variables: given without a template to use them")
    return faults


def _listed(value: object) -> Sequence[object]:
    if isinstance(value, str):
        return [value] if value else []
    return value if isinstance(value, Sequence) else []


def _as_datetime(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return value if isinstance(value, datetime) and value.tzinfo else None


def _too_much(mail: Mail) -> Iterator[str]:
    if mail.attachments:
        inline = [a.content_id for a in mail.attachments if a.content_id]
        if len(set(inline)) < len(inline):
            yield "attachments: the same content_id twice"
    if mail.size > LARGEST_MESSAGE:
        yield too_large(mail.size, LARGEST_MESSAGE)
    if mail.mime is not None and not isinstance(mail.mime, Stored):
        yield from _wrong_source(mail, contents.read(mail.mime) if mail.size <= MAX_MIME else None)
    if not mail.save_to_sent_items and mail.mime is not None:
        yield "save_to_sent_items: cannot be false for MIME, which Exchange always saves"
    elif not mail.save_to_sent_items and (headers := needs_mime(mail.headers)):
        yield (
            f"save_to_sent_items: cannot be false together with the headers {', '.join(headers)}: "
            "they need MIME, and Exchange always saves mail that is sent as MIME"
        )


def _wrong_source(mail: Mail, source: bytes | None) -> Iterator[str]:
    if source is None or mail.size + sum(len(one.encode()) for one in mail.recipients) > MAX_MIME:
        yield f"mime: {mail.size} bytes; Graph takes {MAX_MIME} as MIME; larger mail goes as html, text and files"
    else:
        yield from (f"mime: {fault}" for fault in sources.faults(source))


def _field_faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            import difflib  # noqa: PLC0415 - few producers ever need it

            near = difflib.get_close_matches(str(fault["loc"][-1]), [*Mail.model_fields, "from"], n=1)
            yield f"{where}: no such field" + (f"; did you mean {near[0]}?" if near else "")
        elif fault["type"] == "timezone_aware":
            yield f"{where}: a time without its zone; give an aware datetime (or ISO 8601 with an offset)"
        else:
            yield f"{where}: {fault['msg'].removeprefix('Value error, ')}"
