"""A Mail: what a producer asks to have sent. A Mail is checked when it is made, so every Mail object is valid.

Its fields are those of Graph's message resource: https://learn.microsoft.com/graph/api/resources/message
"""

import base64
import json
import mimetypes
import uuid
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from json.encoder import encode_basestring
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json, to_json

from postroom.errors import InvalidMail
from postroom.mail import content as contents
from postroom.mail import formats, mime_source
from postroom.mail.address import Address
from postroom.mail.content import Content, Source, Stored
from postroom.mail.fields import (
    AContent,
    Addresses,
    ASender,
    ATime,
    ContentType,
    Headers,
    Line,
    Name,
    Names,
    Text,
    Variables,
    needs_mime,
)
from postroom.mail.priority import Importance, Priority
from postroom.mail.validation import LARGEST_MESSAGE, MAX_MIME, contradictions, far_too_much, field_faults, too_large

_LONG = 500
_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class Attachment(BaseModel):
    """A file that is sent with the mail. With a `content_id` it is an inline image: `<img src="cid:…">`.

    `content` is bytes or a `pathlib.Path`. The file at the path is read piece by piece when the mail is taken in, and
    must not change before. A str is read as base64, as in JSON. `content_type` is guessed from the name if missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, defer_build=True)

    filename: Name
    content: AContent
    content_type: ContentType | None = None
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
        try:
            super().__init__(
                filename=filename, content=content, **{k: v for k, v in given.items() if v is not None}, **unknown
            )
        except ValidationError as error:
            raise InvalidMail(list(field_faults(error, Attachment.model_fields))) from error

    @property
    def size(self) -> int:
        """The size of the content in bytes."""
        return contents.size_of(self.content)

    def read(self, begin: int = 0, end: int | None = None) -> bytes:
        """The content's bytes from `begin` to before `end`, by default all of them. Errors: see `mail.content`."""
        return contents.read(self.content, begin, end)

    @property
    def mime_type(self) -> str:
        return self.content_type or mimetypes.guess_type(self.filename)[0] or "application/octet-stream"

    @property
    def is_invitation(self) -> bool:
        """Whether this is a calendar's request or answer (RFC 6047): it stands beside the bodies, with its method."""
        return self.mime_type.lower().startswith("text/calendar") and "method=" in self.mime_type.lower()


def _attachment(value: object) -> object:
    """An attachment of its fields. Its faults are the mail's, so that all of them are named at once."""
    if not isinstance(value, Mapping):
        return value
    try:
        return Attachment(**value)
    except InvalidMail as error:
        raise (error.__cause__ or error) from None
    except TypeError:
        raise ValueError("an attachment has a filename and a content") from None


def file_name(given: str, otherwise: str) -> str:
    """A name as a file of a mail may have it, the end of `given` without what cannot be printed; or the other one."""
    return "".join(one for one in given if one.isprintable())[-200:].strip() or otherwise


class Mail(BaseModel):
    """What a producer asks to have sent. Raises InvalidMail, which lists all faults at once.

    The bodies come from `template` + `variables`, or are `html` and `text`. A `subject` replaces the template's own.
    Or `mime` is the source of the whole message, which is sent unchanged to the recipients in `to`, `cc` and `bcc`.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        defer_build=True,  # until the first mail is made: building takes a fifth of the time of `import postroom`
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
    variables: Variables = Field(default_factory=dict)
    locale: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$")] | None = None
    attachments: tuple[Annotated[Attachment, BeforeValidator(_attachment)], ...] = ()
    mime: AContent | None = None
    headers: Headers = Field(default_factory=dict)
    importance: Importance = Importance.NORMAL
    priority: Priority = Priority.NORMAL
    scheduled_at: ATime | None = None
    expires_at: ATime | None = None
    save_to_sent_items: bool = True
    read_receipt: bool = False
    delivery_receipt: bool = False
    tags: Annotated[Names, Field(max_length=20)] = ()
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
        if faults := far_too_much(values, _known()):
            raise InvalidMail(faults)
        faults = contradictions(values)
        try:
            mail = build(dict(values))
        except ValidationError as error:
            raise InvalidMail([*field_faults(error, _known()), *faults]) from None
        if faults := [*faults, *_too_much(mail)]:
            raise InvalidMail(faults)
        return mail

    @property
    def recipients(self) -> tuple[Address, ...]:
        return (*self.to, *self.cc, *self.bcc)

    def with_sender(self, default: Address | None) -> "Mail":
        """This mail, with `default` as its sender if it has none. InvalidMail if there is neither."""
        if self.sender is not None:
            return self
        if default is None:
            raise InvalidMail("sender: missing, and no default sender is set (POSTROOM_SENDER)")
        return self.model_copy(update={"sender": default})

    @property
    def size(self) -> int:
        """The size of the mail in bytes, as Exchange counts it: attachments in base64, which is a third larger."""
        if self.mime is not None:
            return contents.size_of(self.mime)
        bodies = _bytes_of(self.text) + _bytes_of(self.html)
        return bodies + sum([_in_base64(attachment.size) for attachment in self.attachments])

    @property
    def format(self) -> int:
        """The format that a worker must understand to send this mail: see mail/formats.py."""
        if self.mime is not None:
            return formats.MIME
        return formats.PARAMETERS if any(";" in (a.content_type or "") for a in self.attachments) else formats.PLAIN

    @property
    def is_plain(self) -> bool:
        """Whether the mail can be posted as it is: a ready body that fits into one request in JSON."""
        return not (
            self.template or self.attachments or self.mime is not None or self.headers or (self.text and self.html)
        )

    @property
    def enclosed(self) -> tuple[Content, ...]:
        """The content that may be kept apart from this mail: its attachments, or its MIME source."""
        return (self.mime,) if self.mime is not None else tuple([a.content for a in self.attachments])

    def with_contents(self, stored: Mapping[int, Stored]) -> "Mail":
        """This mail, in which stored content replaces some of `enclosed`: `stored` has it by its place there."""
        if self.mime is not None:
            return self.model_copy(update={"mime": stored.get(0, self.mime)})
        attachments = tuple(
            attachment.model_copy(update={"content": stored[place]}) if place in stored else attachment
            for place, attachment in enumerate(self.attachments)
        )
        return self.model_copy(update={"attachments": attachments})

    def to_fields(self, **context: str) -> dict[str, Any]:
        """The fields that were set, as JSON values. If a `mark` is given, it replaces the content of attachments."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True, context=context)

    def to_texts(self, **context: str) -> dict[str, str]:
        """The same, with each value as JSON text. Equal values have equal texts."""
        texts: dict[str, str] = {}
        values = self.__dict__
        for name in self.model_fields_set:  # for usual fields pydantic takes twice as long
            value = values[name]
            if isinstance(value, str):
                texts["from" if name == "sender" else name] = as_json(value)
            elif name in _ADDRESSES:
                texts[name] = "[" + ",".join([as_json(one) for one in value]) + "]"
            else:
                return {name: as_json(value) for name, value in self.to_fields(**context).items()}
        return texts

    def to_json(self, **context: str) -> str:
        """The fields that were set, as one JSON text, which `from_json` reads."""
        return joined(self.to_texts(**context))

    def digest(self, text: str | None = None) -> str:
        """The SHA-256 of the mail's JSON with all content in it, wherever it is kept. Content is read piece by piece.

        `text` is that JSON, if the caller has it already and nothing is `enclosed`.
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
        """The mail that `to_json` wrote, perhaps in a newer version: fields unknown to this version are left out.

        `source` is where its stored content is read from, when it is read.
        """
        values = json.loads(text)
        # Only here: if a producer could refer to stored content, it could refer to that of another mail.
        for attachment in values.get("attachments", ()):
            if isinstance(attachment["content"], dict):
                attachment["content"] = Stored.from_json(attachment["content"], source)
        if isinstance(values.get("mime"), dict):
            values["mime"] = Stored.from_json(values["mime"], source)
        known = _known()
        return cls.model_validate({name: value for name, value in values.items() if name in known})

    @classmethod
    def from_outlook_rest(cls, request: Mapping[str, Any], mailbox: str | None = None) -> "Mail":
        """The mail of a `sendMail` request's body: of the Outlook REST API v2.0 (`Message`), or of Graph (`message`).

        `mailbox` is the one in the request's path; without it the mail has the default sender. Raises InvalidMail,
        whose faults name the members of the request that are wrong, or that Postroom cannot send.
        """
        from postroom.mail.outlook_rest import mail_fields  # noqa: PLC0415 - few producers need it

        return cls.model_validate(mail_fields(request, mailbox))

    @classmethod
    def of_job(cls, text: str | bytes, source: Source | None = None) -> "Mail":
        """The same for a mail that was taken in. If it has usual fields only, they are not checked again."""
        usual = _usual(from_json(text))  # pydantic's: it takes half the time of json
        return _blank().model_copy(update=usual) if usual else cls.from_json(text, source)


_TEXTS = {"subject", "html", "text", "template", "locale"}
_ADDRESSES = {"to", "cc", "bcc", "reply_to"}


def _usual(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a mail, if all are usual ones and have usual types; else an empty dict."""
    usual: dict[str, Any] = {}
    for name, value in values.items():
        if name in _TEXTS and isinstance(value, str):
            usual[name] = value
        elif name in _ADDRESSES and isinstance(value, list) and all(isinstance(one, str) for one in value):
            usual[name] = tuple([Address.stored(one) for one in value])
        elif name == "from" and isinstance(value, str):
            usual["sender"] = Address.stored(value)
        elif name == "variables" and isinstance(value, dict):
            usual[name] = value
        else:
            return {}
    return usual if usual.keys() & {"html", "text", "template"} and usual.keys() & {"to", "cc", "bcc"} else {}


@cache
def _blank() -> Mail:
    return Mail.model_construct()


@cache
def _known() -> frozenset[str]:
    return frozenset({*Mail.model_fields, "from"})


def as_json(value: object) -> str:
    """A field of a mail as JSON text. Equal values have equal texts."""
    if not isinstance(value, str):
        return _JSON.encode(value)
    # For a long text pydantic gives the same as json, in half the time.
    return to_json(value).decode() if len(value) > _LONG else encode_basestring(value)


def joined(fields: Mapping[str, str]) -> str:
    """The JSON object that has these fields. Each value is JSON text already."""
    return "{" + ",".join([f'"{name}":{fields[name]}' for name in sorted(fields)]) + "}"


def _bytes_of(text: str | None) -> int:
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode())


def _in_base64(size: int) -> int:
    return -(-size // 3) * 4


def _too_much(mail: Mail) -> Iterator[str]:
    """Faults that only the whole mail shows."""
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
        yield from (f"mime: {fault}" for fault in mime_source.faults(source))
