"""The mailboxes behind Graph: which there are, what they accepted, and how often each job was sent."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from itertools import count
from secrets import token_hex
from typing import Any

from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.exchange.message import Message, Outgoing
from postroom.sandbox.exchange.traffic import Limits, Meter
from postroom.sandbox.options import SandboxOptions

TOO_MANY_RECIPIENTS = "550 5.1.90 the sender has reached the daily limit for message recipients"


class Exchange:
    """The mailboxes of the tenant. Old messages are dropped; counters stay exact."""

    def __init__(self, options: SandboxOptions) -> None:
        self._options = options
        self._limits = Limits(
            on=options.limits,
            in_flight=options.max_in_flight,
            per_minute=options.rate_per_minute,
            refuse_above=options.refuse_above_per_minute,
            retry_after=options.retry_after,
        )
        self._aliases = {alias.casefold(): box.casefold() for alias, box in options.aliases.items()}
        self._numbers = count(1)
        self.reset()

    def reset(self) -> None:
        """Sets all back to the start: no mail, and the mailboxes of the options."""
        self._meters: dict[tuple[str, str], Meter] = {}
        self._messages: OrderedDict[str, Message] = OrderedDict()
        self._drafts: OrderedDict[str, Message] = OrderedDict()
        self._bytes = 0
        self._jobs: Counter[str] = Counter()
        self.accepted = 0
        self.set_mailboxes(self._options.mailboxes)

    def set_mailboxes(self, mailboxes: Iterable[str] | None, disabled: Iterable[str] = ()) -> None:
        """Sets which mailboxes exist (None: any), and which of them Graph cannot reach (no licence, on-premises)."""
        self._mailboxes = None if mailboxes is None else {box.casefold() for box in mailboxes}
        self._disabled = {box.casefold() for box in disabled}

    def mailbox(self, user: str) -> str:
        """The mailbox's key: its primary address or id, casefolded, whether or not it exists."""
        key = user.casefold()
        return self._aliases.get(key, key)

    def has_mailbox(self, address: str) -> bool:
        """Whether there is such a mailbox in the tenant."""
        return self._mailboxes is None or self.mailbox(address) in self._mailboxes | self._disabled

    def require(self, user: str) -> None:
        """Raises GraphError unless this mailbox exists and Graph can reach it."""
        key = self.mailbox(user)
        if not self.has_mailbox(user):
            raise GraphError(404, "ErrorInvalidUser", f"The requested user '{user}' is invalid.")
        if key in self._disabled:
            message = "The mailbox is either inactive, soft-deleted, or is hosted on-premise."
            raise GraphError(404, "MailboxNotEnabledForRESTAPI", message)

    def require_send_as(self, mailbox: str, mail: Outgoing) -> None:
        """Raises GraphError unless the mail's From is this mailbox's address or an alias of it."""
        # A mailbox addressed by its object id has no address here to compare with.
        if mail.author is None or "@" not in mailbox or self.mailbox(mail.author.address) == mailbox:
            return
        raise GraphError(
            403,
            "ErrorSendAsDenied",
            "The user account which was used to submit this request does not have the right to send mail on behalf of "
            "the specified sending account., Cannot submit message.",
        )

    def meter(self, app_id: str, mailbox: str) -> Meter:
        """The traffic of this app in this mailbox."""
        key = (app_id, mailbox)
        meter = self._meters.get(key)
        if meter is None:
            meter = self._meters[key] = Meter(self._limits)
        return meter

    def accept(
        self, mailbox: str, mail: Outgoing, job: str, request_id: str, meter: Meter, message_id: str = ""
    ) -> Message:
        """Accepts a mail; `message_id` is the id of a draft that keeps it. Raises GraphError for one too large."""
        self.require_size(mail)
        self._name(mail)
        now = time.monotonic()
        message = Message(
            id=message_id or _new_id(),
            number=next(self._numbers),
            mailbox=mailbox,
            sender=mailbox,
            folder="sentitems" if mail.save else "",
            mail=mail,
            job=job,
            accepted_at=time.time(),
            delayed_by=meter.accept(len(mail.recipients()), now),
            bounced=TOO_MANY_RECIPIENTS if meter.over_daily_recipients(now) else "",
            request_id=request_id,
        )
        self.accepted += 1
        if job:
            self._jobs[job] += 1
        self._keep(message)
        return message

    def create_draft(self, mailbox: str, mail: Outgoing, job: str, immutable_id: bool) -> Message:
        """Puts a mail into Drafts. It keeps its id when it is sent where the client asked for immutable ids."""
        self._name(mail)
        draft = Message(
            id=_new_id(),
            number=next(self._numbers),
            mailbox=mailbox,
            sender=mailbox,
            folder="drafts",
            mail=mail,
            job=job,
            accepted_at=time.time(),
            delayed_by=0.0,
            bounced="",
            request_id="",
            immutable_id=immutable_id,
        )
        self._drafts[draft.id] = draft
        if len(self._drafts) > self._options.keep_messages:
            self._drafts.popitem(last=False)
        return draft

    def send_draft(self, mailbox: str, draft_id: str, request_id: str, meter: Meter) -> Message:
        """Sends a draft, which is always saved. Raises GraphError where there is none, or it is too large."""
        draft = self.require_draft(mailbox, draft_id)
        self.require_size(draft.mail)
        del self._drafts[draft_id]
        kept_id = draft_id if draft.immutable_id else ""
        return self.accept(mailbox, draft.mail, draft.job, request_id, meter, kept_id)

    def require_size(self, mail: Outgoing) -> None:
        """Raises GraphError where a mailbox may not send mails of this size."""
        if mail.size > self._options.max_message:
            raise GraphError(413, "ErrorMessageSizeExceeded", "The message exceeds the maximum supported size.")

    def delete(self, mailbox: str, message_id: str) -> None:
        """Deletes a message: a draft, or the sender's copy of a mail that was sent."""
        message = self.require_message(mailbox, message_id)
        if message.is_draft:
            del self._drafts[message_id]
        else:
            message.folder = ""

    def require_draft(self, mailbox: str, draft_id: str) -> Message:
        """The mailbox's draft with this id. Raises GraphError where there is none, or it was sent."""
        draft = self._drafts.get(draft_id)
        if draft is None or draft.mailbox != mailbox:
            raise GraphError(404, "ErrorItemNotFound", "The specified object was not found in the store.")
        return draft

    def require_message(self, mailbox: str, message_id: str) -> Message:
        """The mailbox's message with this id, draft or sent. Raises GraphError where there is none."""
        sent = self._messages.get(message_id)
        if sent is not None and sent.folder and sent.mailbox == mailbox:
            return sent
        return self.require_draft(mailbox, message_id)

    def drafts(self) -> Iterator[Message]:
        """The drafts kept, the newest first."""
        return reversed(list(self._drafts.values()))

    def get(self, message_id: str) -> Message | None:
        """The message with this id, while it is kept."""
        return self._messages.get(message_id)

    def newest(self) -> Iterator[Message]:
        """All messages kept, the newest first."""
        return reversed(list(self._messages.values()))

    def neighbours(self, message: Message) -> tuple[str | None, str | None]:
        """The ids of the next newer and the next older message."""
        ids = list(self._messages)
        place = ids.index(message.id) if message.id in self._messages else -1
        newer = ids[place + 1] if 0 <= place < len(ids) - 1 else None
        return newer, ids[place - 1] if place > 0 else None

    def stats(self) -> dict[str, Any]:
        """What was accepted, refused and sent twice, in all and by mailbox."""
        mailboxes: dict[str, dict[str, int]] = {}
        for (_, mailbox), meter in self._meters.items():
            one = mailboxes.setdefault(mailbox, Counter())
            one["accepted"] += meter.accepted
            one["throttled"] += meter.throttled
            one["recipients"] += meter.recipients
            one["in_flight"] += meter.in_flight
            one["highest_in_flight"] = max(one["highest_in_flight"], meter.highest_in_flight)
            one["most_in_60s"] = max(one["most_in_60s"], meter.sent.most)
            one["most_requests_in_60s"] = max(one["most_requests_in_60s"], meter.arrivals.most)
        return {
            "accepted": self.accepted,
            "throttled": sum(one["throttled"] for one in mailboxes.values()),
            "jobs": len(self._jobs),
            "doubled": {job: times for job, times in self._jobs.items() if times > 1},
            "kept": len(self._messages),
            "drafts": len(self._drafts),
            "mailboxes": mailboxes,
        }

    def _name(self, mail: Outgoing) -> None:
        if not mail.message_id or (mail.form == "mime" and not self._options.keep_mime_message_id):
            mail.message_id = f"<{token_hex(16)}@sandbox.invalid>"

    def _keep(self, message: Message) -> None:
        self._messages[message.id] = message
        self._bytes += message.size
        options = self._options
        while len(self._messages) > options.keep_messages or (
            self._bytes > options.keep_bytes and len(self._messages) > 1
        ):
            _, dropped = self._messages.popitem(last=False)
            self._bytes -= dropped.size


def _new_id() -> str:
    return f"AAMk{token_hex(20)}"
