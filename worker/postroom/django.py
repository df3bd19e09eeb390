"""Django's mail through Postroom: set `EMAIL_BACKEND = "postroom.django.EmailBackend"` and POSTROOM_REDIS_URL.

Since Django 6.1 that is `MAILERS = {"default": {"BACKEND": "postroom.django.EmailBackend"}}`.

Special headers set what Django has no argument for: `X-Postroom-Key` (the idempotency key), `X-Postroom-Batch`,
`X-Postroom-Priority`, and `X-Postroom-Template` with `X-Postroom-Variables` (JSON) instead of a body. They are removed
before the mail is sent.
"""

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from email.message import Message
from functools import cache
from typing import Any

from django.conf import global_settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from postroom.client import Client
from postroom.errors import InvalidMail, PostroomError
from postroom.mail.json_text import json_value
from postroom.mail.model import Attachment, Mail, file_name

OURS = "x-postroom-"
HEADERS = {"key", "batch", "priority", "template", "variables"}


class EmailBackend(BaseEmailBackend):
    """Gives each message to Postroom. When `send` has returned, the mail is kept. All threads share one client."""

    def __init__(self, fail_silently: bool = False, client: Client | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.fail_silently = fail_silently  # since 6.1 Django's own class has no such option
        self._client = client

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Takes in the messages and returns their number. A message with a known key counts too.

        Messages without recipients are left out. Raises InvalidMail if a message cannot be sent as it is, Unavailable
        if Redis could not confirm. With `fail_silently` such a message is not counted, and the others are taken in.
        """
        sent = 0
        for message in email_messages:
            if not message.recipients():
                continue
            try:
                self._send(message)
            except PostroomError:
                if not self.fail_silently:
                    raise
            else:
                sent += 1
        return sent

    def _send(self, message: EmailMessage) -> None:
        ours, headers = _sorted_headers(message)
        try:
            mail = _mail(message, ours, headers)
        except (LookupError, ValueError) as error:  # a charset that does not exist, or has not these letters
            raise InvalidMail(f"the message cannot be written ({error})") from None
        (self._client or _client()).send(mail, ours.get("key"), batch=ours.get("batch"))


@cache
def _client() -> Client:
    return Client.from_env()


def _sorted_headers(message: EmailMessage) -> tuple[dict[str, str], dict[str, str]]:
    """The X-Postroom headers, without this prefix; and the headers that are sent with the mail."""
    ours, others = {}, {}
    for name, value in message.extra_headers.items():
        if name.lower().startswith(OURS):
            ours[name.lower().removeprefix(OURS)] = str(value)
        else:
            others[name] = str(value)
    if unknown := sorted(ours.keys() - HEADERS):
        raise InvalidMail(f"headers: no such header X-Postroom-{unknown[0].title()}; there are {_listed(HEADERS)}")
    return ours, others


def _listed(names: set[str]) -> str:
    return ", ".join(f"X-Postroom-{name.title()}" for name in sorted(names))


def _mail(message: EmailMessage, ours: Mapping[str, str], headers: Mapping[str, str]) -> Mail:
    named = {name.lower(): name for name in headers}
    sender = headers[named["from"]] if "from" in named else message.from_email
    reply_to = [headers[named["reply-to"]]] if "reply-to" in named and not message.reply_to else message.reply_to
    values = {
        "sender": None if sender == global_settings.DEFAULT_FROM_EMAIL else sender,  # nobody has set one
        "to": list(map(str, message.to)),
        "cc": list(map(str, message.cc)),
        "bcc": list(map(str, message.bcc)),
        "reply_to": list(map(str, reply_to)),
        "subject": str(message.subject) or None,
        "headers": {name: value for name, value in headers.items() if name.lower() not in {"from", "reply-to"}},
        "attachments": [
            *_invitations(message),
            *(_attachment(one, n, message) for n, one in enumerate(message.attachments, 1)),
        ],
        "priority": ours.get("priority"),
        **_content(message, ours),
    }
    return Mail.model_validate({name: value for name, value in values.items() if value})


def _content(message: EmailMessage, ours: Mapping[str, str]) -> dict[str, Any]:
    if "template" in ours:
        if message.body or getattr(message, "alternatives", None):
            raise InvalidMail("body: given beside X-Postroom-Template; leave it empty")
        return {"template": ours["template"], "variables": _variables(ours.get("variables", "{}"))}
    bodies: dict[str, str] = {}
    for kind, body in _bodies(message):
        if kind.lower().startswith("text/calendar"):
            continue  # an invitation: see `_invitations`
        field = {"text/plain": "text", "text/html": "html"}.get(kind)
        if field is None:
            raise InvalidMail(f"alternatives: Exchange takes a text and an HTML body, not {kind}; attach it as a file")
        if field in bodies:
            raise InvalidMail(f"alternatives: two bodies of {kind}; Exchange takes one of each")
        bodies[field] = body
    return bodies if any(bodies.values()) else {"text": "\n"}  # an empty body is one for Django


def _bodies(message: EmailMessage) -> Iterator[tuple[str, str]]:
    alternatives = getattr(message, "alternatives", None) or []
    if message.body or not alternatives:
        yield f"text/{message.content_subtype}", str(message.body)
    for body, kind in alternatives:
        yield kind, body.decode() if isinstance(body, bytes) else str(body)


def _invitations(message: EmailMessage) -> Iterator[Attachment]:
    """The alternatives that a calendar reads."""
    for kind, body in _bodies(message):
        if kind.lower().startswith("text/calendar"):
            yield Attachment("invitation.ics", body.encode(), kind)


def _variables(text: str) -> dict[str, Any]:
    try:
        variables = json_value(text)
    except ValueError as error:
        raise InvalidMail(f"headers: X-Postroom-Variables is not JSON: {error}") from None
    if not isinstance(variables, dict):
        raise InvalidMail("headers: X-Postroom-Variables is no JSON object")
    return variables


def _attachment(given: Any, number: int, message: EmailMessage) -> Attachment:
    """From Django's (filename, content, type), or from a MIME part."""
    if isinstance(given, Message):
        return _of_part(given, number)
    filename, content, kind = given
    if isinstance(content, EmailMessage):
        content = content.message()
    if isinstance(content, Message):
        content = content.as_bytes()
    if isinstance(content, str):
        content = content.encode(str(message.encoding or "utf-8"))
    return Attachment(file_name(filename or "", _name(kind, number)), content, kind or None)


def _of_part(part: Message, number: int) -> Attachment:
    kind, payload = part.get_content_type(), part.get_payload(decode=True)
    inner = part.get_payload()
    if kind == "message/rfc822" and isinstance(inner, list) and isinstance(inner[0], Message):
        content = inner[0].as_bytes()
    else:
        content = payload if isinstance(payload, bytes) else part.as_bytes()
    content_id = str(part.get("Content-ID", "")).strip().strip("<>") or None
    return Attachment(file_name(part.get_filename() or "", _name(kind, number)), content, kind, content_id)


def _name(kind: str | None, number: int) -> str:
    return f"attachment-{number}{mimetypes.guess_extension(kind or '') or '.bin'}"
