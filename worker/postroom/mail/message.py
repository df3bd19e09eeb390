"""A Message: the rendered form of a Mail, ready to be put into a request."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from postroom.mail.address import Address
from postroom.mail.bodies import Bodies
from postroom.mail.content import Content
from postroom.mail.model import Attachment, Mail
from postroom.mail.priority import Importance


class DeliveryMode(StrEnum):
    """How a message is sent: by one request (send), from a draft (draft), or from one only if it is large (auto)."""

    AUTO = "auto"
    SEND = "send"
    DRAFT = "draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A message that came as MIME and is sent unchanged. `own` are the addresses that its From may have."""

    source: Content
    own: frozenset[str]
    taken_in_at: datetime | None


class Message(NamedTuple):
    """`sender` is the visible From. `mailbox` sends it: another address where the sender is an alias of it.

    If `ready` is given, `subject` is only what is put before the subject of that source.
    """

    job_id: str
    sender: Address
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]
    reply_to: tuple[Address, ...]
    subject: str
    html: str | None
    text: str | None
    headers: dict[str, str]
    attachments: tuple[Attachment, ...]
    importance: Importance
    save_to_sent_items: bool
    read_receipt: bool
    delivery_receipt: bool
    ready: Ready | None = None
    mailbox: str = ""  # if empty, the sender's own address

    @property
    def message_id(self) -> str:
        return message_id(self.job_id, self.mailbox or self.sender.address)


def message_id(job_id: str, mailbox: str) -> str:
    """The Message-ID of a job's message. It is derived from the job's id, so a look-up needs nothing else."""
    domain = mailbox.rpartition("@")[2]
    return f"<{job_id}@{domain if domain.isascii() else domain.encode('idna').decode()}>"


def compose(
    mail: Mail,
    sender: Address,
    job_id: str,
    bodies: Bodies | None,
    redirect_all_to: Address | None,
    ready: Ready | None = None,
    mailbox: str = "",
) -> Message:
    """The message of a mail. `bodies` is what its template rendered to, None if the mail has bodies of its own.

    `ready` is given for mail that came as MIME. `redirect_all_to` (for staging) replaces all recipients, and the
    subject says to whom the mail would go. `mailbox` is given where it is not the sender's own address.
    """
    subject = mail.subject if mail.subject is not None else (bodies.subject if bodies else "")

    def instead_of(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
        return (redirect_all_to,) if redirect_all_to and addresses else addresses

    return Message(
        job_id=job_id,
        sender=sender,
        to=instead_of(mail.to),
        cc=instead_of(mail.cc),
        bcc=instead_of(mail.bcc),
        reply_to=mail.reply_to,
        subject=f"{_instead(mail.recipients)} {subject}".rstrip() if redirect_all_to else subject,
        html=bodies.html if bodies else mail.html,
        text=bodies.text if bodies else mail.text,
        headers=mail.headers,
        attachments=mail.attachments,
        importance=mail.importance,
        save_to_sent_items=mail.save_to_sent_items,
        read_receipt=mail.read_receipt,
        delivery_receipt=mail.delivery_receipt,
        ready=ready,
        mailbox=mailbox,
    )


def _instead(recipients: Sequence[Address]) -> str:
    first, *others = recipients
    more = f" and {len(others)} more" if others else ""
    return f"[to {first.address}{more}]"
