"""A mail as the sandbox has read it, from JSON or MIME."""

from __future__ import annotations

from dataclasses import dataclass, field
from secrets import token_hex
from typing import NamedTuple


class Address(NamedTuple):
    """A mail address, with the name before it."""

    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.name} <{self.address}>" if self.name and self.name != self.address else self.address


@dataclass(slots=True, kw_only=True)
class Attachment:
    """A file of a mail. An `inline` one is shown where the HTML names its content id."""

    filename: str
    content_type: str
    content: bytes
    content_id: str = ""
    inline: bool = False
    id: str = field(default_factory=lambda: f"AAMk{token_hex(20)}")


@dataclass(slots=True, kw_only=True)
class Outgoing:
    """What a request asks to have sent; `source` is the request's own text: JSON, or the decoded MIME."""

    form: str
    source: bytes
    subject: str
    to: list[Address]
    cc: list[Address]
    bcc: list[Address]
    reply_to: list[Address]
    author: Address | None
    html: str | None
    text: str | None
    headers: list[tuple[str, str]]
    attachments: list[Attachment]
    message_id: str
    importance: str = "normal"
    properties: dict[str, str] = field(default_factory=dict)
    save: bool = True
    added: int = 0
    """Bytes of attachments that were added after the source."""

    def attach(self, attachment: Attachment) -> None:
        """Adds a file to a draft."""
        self.attachments.append(attachment)
        self.added += len(attachment.content)

    @property
    def size(self) -> int:
        """The mail's size as Exchange counts it: with the third that base64 adds to the attachments."""
        bodies = sum(len(body.encode()) for body in (self.html, self.text) if body)
        return bodies + sum(len(one.content) for one in self.attachments) * 4 // 3

    def recipients(self) -> list[Address]:
        """Everybody the mail goes to: the envelope."""
        return [*self.to, *self.cc, *self.bcc]

    def job(self) -> str:
        """The job id that the mail carries, in a header or a property of that name; else empty."""
        for name, value in self.headers:
            if name.casefold() == "x-postroom-job":
                return value
        for name, value in self.properties.items():
            if "job" in name.rpartition(" ")[2].casefold():
                return value
        return ""


@dataclass(slots=True, kw_only=True)
class Message:
    """A mail in its mailbox. `folder` is "drafts", "sentitems", or empty where no copy was kept.

    `delayed_by` and `bounced` tell what Exchange does behind the 202: delivers later, or returns it with an NDR.
    """

    id: str
    number: int
    mailbox: str
    sender: str
    folder: str
    mail: Outgoing
    job: str
    accepted_at: float
    delayed_by: float
    bounced: str
    request_id: str
    immutable_id: bool = False

    @property
    def is_draft(self) -> bool:
        """Whether it has not been sent."""
        return self.folder == "drafts"

    @property
    def size(self) -> int:
        """About how many bytes of memory this message takes."""
        return 2 * len(self.mail.source) + self.mail.added + 1000

    def matches(self, words: list[str]) -> bool:
        """Whether every one of these casefolded words is somewhere in the mail."""
        mail = self.mail
        people = " ".join(str(one) for one in (*mail.recipients(), *mail.reply_to))
        files = " ".join(one.filename for one in mail.attachments)
        parts = (
            self.sender,
            people,
            mail.subject,
            self.job,
            mail.message_id,
            files,
            mail.text or "",
            mail.html or "",
        )
        haystack = "\n".join(parts).casefold()
        return all(word in haystack for word in words)
