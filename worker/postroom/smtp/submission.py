"""Makes a Mail and its idempotency key from an SMTP client's envelope and message."""

import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from postroom.access.rights import content_key
from postroom.access.smtp_logins import Login
from postroom.errors import InvalidMail
from postroom.mail import mime_source, mime_tree
from postroom.mail.address import Address
from postroom.mail.fields import OUR_HEADER
from postroom.mail.json_text import json_value
from postroom.mail.mime_source import Person, Source
from postroom.mail.model import Mail
from postroom.mail.priority import Priority
from postroom.mail.validation import MAX_MIME
from postroom.smtp import mime_parts

# A message up to this size is sent unchanged. The other 100 kB are for the recipients that are added to its header.
AS_IT_CAME = MAX_MIME - 100_000
# The headers by which a client sets a field of the mail, with that field; None stands for the key.
HEADERS = {
    "x-postroom-key": None,
    "x-postroom-template": "template",
    "x-postroom-variables": "variables",
    "x-postroom-priority": "priority",
    "x-postroom-scheduled-at": "scheduled_at",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An SMTP answer: its code, the enhanced status (RFC 3463) and a text that says what to do."""

    code: int
    status: str
    text: str

    def __str__(self) -> str:
        text = "".join(character if " " <= character <= "~" else "?" for character in self.text)
        return f"{self.code} {self.status} {text[:480]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A mail with its key. `by_content`: the key was made from the message, so the same key means the same message."""

    mail: Mail
    key: str | None
    by_content: bool = False


def read(
    source: bytes, sender: str, recipients: Sequence[Address], login: Login, default: Address | None
) -> Submission | Reply:
    """The mail for this message, or the answer that refuses it.

    `sender` is MAIL FROM and may be empty. `default` is the sender of a mail that names none. InvalidMail is never
    raised: it becomes an answer.
    """
    if wrong := next(mime_source.faults(source), None):
        return Reply(code=550, status="5.6.11" if "LF" in wrong or "NUL" in wrong else "5.6.0", text=wrong)
    message = mime_source.parse(source)
    author = _author(message, sender) or default
    if isinstance(author, Reply):
        return author
    if author is not None and not login.caller.may_use(author.address):
        text = f"{login.words} may not send from this address; its senders stand in the settings of Postroom"
        return Reply(code=550, status="5.7.1", text=text)
    try:
        asked = _asked(message)
        lean = _lean(message, login)
        fields = {**_people(lean, recipients), **({"from": author} if author else {}), **asked}
        key = fields.pop("key", None)
        content = _content(lean, template="template" in asked)
        if isinstance(content, Reply):
            return content
        mail = Mail.model_validate({**fields, **content})
    except InvalidMail as error:
        return Reply(code=550, status="5.6.0", text="; ".join(error.faults))
    if key:
        return Submission(mail=mail, key=login.caller.key(key))
    return Submission(mail=mail, key=_own_key(message, source, sender, recipients, login), by_content=True)


def too_large(most: int) -> Reply:
    """The answer to a message of more than `most` bytes."""
    text = f"the message is larger than {most} bytes; send smaller files, or a link to them"
    return Reply(code=552, status="5.3.4", text=text)


def _author(message: Source, sender: str) -> Address | Reply | None:
    """The mail's author: its From, else MAIL FROM, else None. Or the answer that refuses it."""
    people = message.people("from")
    if people is None or len(people) > 1 or len(message.all("from")) > 1:
        return Reply(code=550, status="5.6.0", text="From must be one header that names one address")
    # A local user, such as cron's `root (Cron Daemon)`, is nobody outside its machine.
    if not people or "@" not in people[0].address:
        people = [Person("", sender)] if "@" in sender else []
    try:
        author = [Address(_author_name(one.name), Address.parse(one.address).address) for one in people]
    except ValueError as error:
        where = "From" if message.all("from") else "MAIL FROM"
        return Reply(code=550, status="5.1.7", text=f"{where} is {error}")
    return next(iter(author), None)


def _name(name: str) -> str:
    """The display name, or "" if it has characters that a mail must not have."""
    return name if name.isprintable() else ""


def _author_name(name: str) -> str:
    """The same for the author, or "" if it has an `@`: Exchange has taken what stands there for the sender."""
    return "" if "@" in name else _name(name)


def _lean(message: Source, login: Login) -> Source:
    """The message without what is only for Postroom, and without a Sender that the client may not be."""
    senders = message.people("sender")
    foreign = senders is None or not all(login.caller.may_use(one.address) for one in senders)
    return message.without({*HEADERS, OUR_HEADER, *(["sender"] if foreign else [])})


def _people(message: Source, recipients: Sequence[Address]) -> dict[str, list[Address]]:
    """The recipients of the envelope by field: To or Cc if that header names the recipient, else Bcc.

    A recipient that only a header names gets nothing. Perhaps the client sends to it in another transaction.
    """
    envelope = {one.lane: one for one in recipients}
    people: dict[str, list[Address]] = {}
    for field in ("to", "cc"):
        named = [(one.name, _address(one.address)) for one in message.people(field) or []]
        meant = {
            to.lane: Address(_name(name), envelope[to.lane].address) for name, to in named if to and to.lane in envelope
        }
        people[field] = list(meant.values())
    shown = {one.lane for people in people.values() for one in people}
    people["bcc"] = [one for lane, one in envelope.items() if lane not in shown]
    return {field: people for field, people in people.items() if people}


def _address(text: str) -> Address | None:
    try:
        return Address.parse(text)
    except ValueError:
        return None


def _asked(message: Source) -> dict[str, Any]:
    """The values of the X-Postroom headers, by the mail's field. InvalidMail lists all faults."""
    faults: list[str] = []
    asked: dict[str, Any] = {}
    for name in dict.fromkeys(field.name for field in message.fields if field.name.startswith("x-postroom-")):
        if name == OUR_HEADER:
            continue
        if name not in HEADERS:
            near = difflib.get_close_matches(name, HEADERS, n=1)
            faults.append(f"{name.title()}: no such header" + (f" ({near[0].title()}?)" if near else ""))
        elif len(values := message.all(name)) > 1:
            faults.append(f"{name.title()}: given {len(values)} times")
        else:
            asked[HEADERS[name] or "key"] = values[0].text.strip()
    faults += _understood(asked)
    if faults:
        raise InvalidMail(faults)
    return asked


def _understood(asked: dict[str, Any]) -> Iterator[str]:
    """Replaces texts in `asked` by the values that they stand for. Gives the faults of those that stand for none."""
    if "variables" in asked:
        try:
            asked["variables"] = json_value(asked["variables"])
        except ValueError as error:
            yield f"X-Postroom-Variables: no JSON ({error})"
        if "template" not in asked:
            yield "X-Postroom-Variables: given without X-Postroom-Template"
    if "priority" in asked and asked["priority"].lower() not in set(Priority):
        yield f"X-Postroom-Priority: {', '.join(Priority)} are the priorities"
    elif "priority" in asked:
        asked["priority"] = asked["priority"].lower()
    if "scheduled_at" in asked:
        try:
            asked["scheduled_at"] = datetime.fromisoformat(asked["scheduled_at"])
        except ValueError:
            yield "X-Postroom-Scheduled-At: no time; 2026-12-24T18:00+01:00 is one"
    if "key" in asked and not asked["key"]:
        yield "X-Postroom-Key: empty"


def _content(message: Source, *, template: bool) -> dict[str, Any] | Reply:
    """The mail's fields for the message: its source, or its parts if it is large or a template makes the body."""
    try:
        source = mime_tree.with_short_lines(bytes(message))
    except mime_tree.Unreadable as why:
        return Reply(code=550, status="5.6.0", text=str(why))
    if not template and len(source) <= AS_IT_CAME:
        return {"mime": source}
    try:
        parts = mime_parts.parts_of(source)
    except mime_parts.Whole as why:
        if template:
            return Reply(code=550, status="5.6.0", text=f"the message beside the template cannot be read: {why}")
        text = f"a message over {AS_IT_CAME} bytes goes as bodies and files, and this one cannot: {why}"
        return Reply(code=552, status="5.3.4", text=text)
    answers = [(one.name, _address(one.address)) for one in message.people("reply-to") or []]
    fields: dict[str, Any] = {
        "subject": " ".join((message.text("subject") or "").split()),
        "reply_to": [Address(_name(name), one.address) for name, one in answers if one],
        "attachments": parts.files,
        "tags": tuple(parts.tags),
    }
    if not template:
        bodies = {"html": parts.html, "text": parts.text or (None if parts.html else " ")}
        fields |= {**mime_parts.fields_of(message), **bodies}
    return {name: value for name, value in fields.items() if value}


def _own_key(message: Source, source: bytes, sender: str, recipients: Sequence[Address], login: Login) -> str | None:
    """The key of a message with a Message-ID: made from the message, its sender, its recipients and the client.

    A client that got no answer sends its message again. Without a Message-ID (None) that could be a second mail.
    """
    if not (message.text("message-id") or "").strip():
        return None
    parts = [login.name, sender, *sorted(one.lane for one in recipients)]
    hashed = hashlib.sha256(json.dumps(parts).encode() + b"\0")
    hashed.update(source)  # not joined, because a message may be large
    return content_key(hashed.hexdigest()[:40])
