"""The Python door: `Client` takes mail in and returns its status. Safe to share between threads and after fork."""

import base64
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from postroom.access.rights import own_key
from postroom.errors import InvalidMail, PostroomError
from postroom.jobs.callbacks import NO_CALLBACKS, Callbacks
from postroom.jobs.job import Delivery, Hold, Receipt, Status
from postroom.jobs.job_filter import JobFilter
from postroom.mail.address import Address
from postroom.mail.model import Mail
from postroom.store.connection import connect
from postroom.store.intake import PORTION, portions
from postroom.store.ledger import Ledger
from postroom.store.operator import Actor, HoldResult, ReleaseResult
from postroom.store.shared_content import Common, Entry, Sharing

if TYPE_CHECKING:
    from postroom.store.queries import Page

TIMEOUT_S = 3.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """How many mails were taken in now (`taken`) or before (`known`). `refused` has rows (from 0) with their errors."""

    taken: int
    known: int
    refused: list[tuple[int, PostroomError]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCancelled:
    """The result of cancelling a batch: how many jobs were `cancelled`, and the states of the others.

    Jobs `in_doubt` are cancelled too, so they are not sent again, but they may have been sent. `accepted` were sent
    before, `sending` are just being sent, `ended_before` were already dead, expired or cancelled.
    """

    batch: str
    cancelled: int
    in_doubt: int
    accepted: int
    sending: int
    ended_before: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCounts:
    """How many jobs of a batch are in each state; of those not accepted, `in_doubt` may have been sent."""

    batch: str
    total: int
    in_doubt: int
    queued: int
    deferred: int
    sending: int
    accepted: int
    dead: int
    cancelled: int
    expired: int


class Portion(NamedTuple):
    """Mails that are taken in together, by row: the valid ones (`entries`) and the errors of the others (`wrong`)."""

    entries: Mapping[int, Entry]
    wrong: Mapping[int, PostroomError]
    common: Common | None

    def told(self, answers: Sequence[Receipt | PostroomError]) -> list[tuple[int, Receipt | PostroomError]]:
        """Each row with its receipt or error, in order; `answers` are the results of the entries."""
        rows = list(zip(self.entries, answers, strict=True))
        return sorted([*rows, *self.wrong.items()], key=itemgetter(0)) if self.wrong else rows


class Client:
    """Gives mail to Postroom.

    >>> client = Client.from_env()
    >>> receipt = client.send(Mail(to=["ann@contoso.com"], template="welcome", variables={"name": "Ann"}))
    """

    # The ledger that all clients use instead of their own, and its default sender: see postroom.testing.
    stand_in: ClassVar[tuple[Ledger, Address | None] | None] = None

    def __init__(self, ledger: Ledger, sender: Address | None = None) -> None:
        self._own_ledger, self._own_sender = ledger, sender

    @classmethod
    def from_env(cls) -> "Client":
        """A client with the settings of the environment: POSTROOM_REDIS_URL, and POSTROOM_SENDER as the default sender.

        Raises ConfigError, which names every wrong setting.
        """
        if cls.stand_in:
            return cls(*cls.stand_in)
        from postroom.settings.loading import load_settings  # noqa: PLC0415 - `import postroom` stays cheap

        settings = load_settings()
        redis = connect(settings.redis_url, timeout_s=TIMEOUT_S, name="postroom-client")
        return cls(Ledger(redis, settings.attachments), settings.sender)

    def send(
        self,
        mail: Mail | Mapping[str, Any],
        key: str | None = None,
        *,
        batch: str | None = None,
        on_accepted: Mapping[str, Any] | None = None,
        on_dead: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Takes in a mail, or a dict of its fields. When this has returned, it is kept, and is sent or ends as dead.

        With the same `key` the job is the same: sending again returns the first receipt, marked `known`. `on_accepted`
        and `on_dead` (also for expired mail) are Celery signatures. When the mail ends so, the task is called at least
        once, with the job's id as its first argument. Raises KeyConflict if the key belongs to another mail,
        InvalidMail if the mail is invalid or has no sender, Unavailable if Redis could not confirm.
        """
        calls = Callbacks.of(on_accepted, on_dead)
        return self._ledger.take_in(short_ids(1)[0], self._ready(mail), own_key(key), batch, calls=calls)

    def send_many(
        self,
        mails: Iterable[Mail | Mapping[str, Any]],
        batch: str,
        key: Callable[[Mail], str] | None = None,
        on_receipt: Callable[[int, Receipt], None] | None = None,
        *,
        on_accepted: Mapping[str, Any] | None = None,
        on_dead: Mapping[str, Any] | None = None,
    ) -> BatchResult:
        """Takes in many mails, in portions. If it is run again, no mail is sent twice.

        `key` makes the key of each mail; by default it is the batch and a hash of the mail. A refused mail, also an
        invalid dict, is listed with its row, and the others are taken in. Content that the mails share is stored once.
        `on_receipt` is called with each row and receipt, in order; with those of a portion when Redis has it and the
        next one was made. `on_accepted` and `on_dead` are called for each mail, as for `send`. Raises Unavailable if
        Redis is down: run it again then.
        """
        calls = Callbacks.of(on_accepted, on_dead)
        own_key(f"{batch}/" if key is None else None)  # it is part of each key
        counts, refused = Counter[str](), list[tuple[int, PostroomError]]()
        under_way = deque[Portion]()

        def each() -> Iterator[tuple[Sequence[Entry], Common | None]]:
            for portion in self._portions(mails, batch, key):
                under_way.append(portion)
                yield list(portion.entries.values()), portion.common

        with closing(self._ledger.take_in_portions(each(), batch, calls=calls)) as results:
            for answers in results:
                for row, said in under_way.popleft().told(answers):
                    if not isinstance(said, Receipt):
                        refused.append((row, said))
                        continue
                    counts["known" if said.known else "taken"] += 1
                    if on_receipt:
                        on_receipt(row, said)
        return BatchResult(taken=counts["taken"], known=counts["known"], refused=refused)

    def send_together(
        self,
        mails: Sequence[Mail],
        keys: Sequence[str | None],
        batch: str | None = None,
        calls: Callbacks = NO_CALLBACKS,
    ) -> list[Receipt | PostroomError]:
        """Takes in some hundreds of mails at once. Returns a receipt or an error for each mail, in the same order.

        `keys` has a key or None for each mail, and `calls` what is called at the end of each. Raises Unavailable if
        Redis is down; some mails may then be taken in.
        """
        sharing = Sharing()
        each = zip(short_ids(len(mails)), mails, keys, strict=True)
        entries = [sharing.entry(job_id, mail.with_sender(self._sender), key) for job_id, mail, key in each]
        return self._ledger.take_in_many(entries, batch, sharing.common(entries), calls=calls) if entries else []

    @property
    def _ledger(self) -> Ledger:
        return self.stand_in[0] if self.stand_in else self._own_ledger

    @property
    def _sender(self) -> Address | None:
        return self._own_sender or (self.stand_in[1] if self.stand_in else None)

    def _portions(
        self, mails: Iterable[Mail | Mapping[str, Any]], batch: str, key: Callable[[Mail], str] | None
    ) -> Iterator[Portion]:
        """The mails in portions that are taken in together."""
        rows, sharing = enumerate(mails), Sharing()
        while some := list(islice(rows, PORTION)):
            entries: dict[int, Entry] = {}
            wrong: dict[int, PostroomError] = {}
            for job_id, (row, given) in zip(short_ids(len(some)), some, strict=True):
                try:
                    mail = self._ready(given)
                    entries[row] = sharing.entry(job_id, mail, own_key(key(mail)) if key else None, batch=batch)
                except InvalidMail as error:
                    wrong[row] = error
            yield Portion(entries, wrong, sharing.common(list(entries.values())) if entries else None)

    def _ready(self, given: Mail | Mapping[str, Any]) -> Mail:
        return (given if isinstance(given, Mail) else Mail.model_validate(given)).with_sender(self._sender)

    def status(self, job_id: str) -> Delivery:
        """The present state of the job, with its attempts. Raises UnknownJob if there is no such job."""
        return self._ledger.records.read(job_id)

    def read(self, job_ids: Sequence[str]) -> list[Delivery]:
        """These jobs, in this order, without those that do not exist."""
        return list(self._ledger.records.read_many(job_ids))

    def wait(self, job_id: str, timeout: float) -> Delivery:
        """Waits until the job has ended. Raises TimeoutError after `timeout` seconds. A deferred job has not ended."""
        until = time.monotonic() + timeout
        while not (delivery := self.status(job_id)).status.ended:
            if time.monotonic() >= until:
                raise TimeoutError(f"job {job_id} has not ended within {timeout} s: it is {delivery.status}")
            time.sleep(POLL_S)
        return delivery

    def cancel(self, job_id: str, *, by: str | None = None, why: str | None = None) -> Delivery:
        """Cancels a job that was not sent yet.

        Raises TooLate if it is being sent or has ended, UnknownJob if there is no such job. `by` (by default this
        process's user) and `why` are recorded with the job.
        """
        self._ledger.cancel(job_id, actor=Actor.here(by, why))
        return self.status(job_id)

    def cancel_batch(
        self, batch: str, *, by: str | None = None, why: str | None = None, senders: Sequence[str] = ()
    ) -> BatchCancelled:
        """Cancels all mails of a batch that were not sent yet, and counts the others; with `senders` only their mails.

        Mail that comes into the batch after this started is not cancelled. It may be interrupted and called again.
        """
        actor, replies = Actor.here(by, why), Counter[str]()
        for page in self._pages(batch, senders):
            for some in portions(page.ids):
                replies.update(" ".join(reply[1:]) for reply in self._ledger.cancel_many(some, actor))
        return BatchCancelled(
            batch=batch,
            cancelled=replies["cancelled cancelled"],
            in_doubt=replies["in_doubt cancelled"],
            accepted=replies["late accepted"],
            sending=replies["late sending"],
            ended_before=replies["late cancelled"] + replies["late dead"] + replies["late expired"],
        )

    def batch(self, batch: str, *, senders: Sequence[str] = ()) -> BatchCounts:
        """How many jobs of a batch (with `senders` only theirs) are in each state; all 0 if there is no such batch."""
        counts, in_doubt = Counter[Status](), 0
        for page in self._pages(batch, senders):
            for group in page.groups:
                counts[group.status] += group.count
                in_doubt += group.count if group.in_doubt else 0
        return BatchCounts(
            batch=batch, total=counts.total(), in_doubt=in_doubt, **{status.value: counts[status] for status in Status}
        )

    def _pages(self, batch: str, senders: Sequence[str]) -> "Iterator[Page]":
        return self._ledger.records.pages(JobFilter(batch=batch, senders=senders))

    def hold(
        self,
        *,
        sender: str | None = None,
        batch: str | None = None,
        by: str,
        reason: str = "",
        length_s: float | None = None,
        senders: Sequence[str] = (),
    ) -> HoldResult:
        """Holds a sender's mail, or a batch, until it is released or `length_s` seconds are over.

        Give exactly one of the two; with `senders`, only their mail of the batch is held. Mail that is just being sent
        is not held. A second call changes reason and time.
        """
        return self._ledger.hold(sender=sender, batch=batch, by=by, reason=reason, length_s=length_s, senders=senders)

    def release(
        self, *, sender: str | None = None, batch: str | None = None, senders: Sequence[str] = ()
    ) -> ReleaseResult:
        """Ends a person's hold; with `senders`, only the hold of their mail of the batch.

        If a fault holds the sender or its app, it is probed at once.
        """
        return self._ledger.release(sender=sender, batch=batch, senders=senders)

    def holds(self) -> list[Hold]:
        """All present holds of senders, apps and batches, by a fault or by a person."""
        return self._ledger.records.holds()

    def find(
        self,
        *,
        status: Status | None = None,
        reason: str | None = None,
        to: str | None = None,
        batch: str | None = None,
        sender: str | None = None,
        key: str | None = None,
        tag: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
    ) -> list[Delivery]:
        """The newest jobs that match all given filters. Jobs were taken in at or after `since` and before `until`."""
        wanted = JobFilter(
            status=status,
            reason=reason,
            to=to,
            batch=batch,
            senders=(sender,) if sender else (),
            key=key,
            tag=tag,
            since=since,
            until=until,
        )
        return self._ledger.records.newest(wanted, limit)


def short_ids(count: int) -> list[str]:
    """Random job ids. An id is stored in seven places in Redis; a UUID would take 170 bytes more."""
    text = base64.b64encode(os.urandom(12 * count), b"Zz").decode()
    return [text[at : at + 16] for at in range(0, len(text), 16)]
