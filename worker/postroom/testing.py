"""For producers' own tests: an `Outbox` takes the mail of every `Client`, without Redis or a worker.

    with Outbox() as outbox:
        sign_up("ann@contoso.com")
    assert outbox.mails[0].template == "welcome"

It checks mails, keys and batches like Postroom; it sends nothing.
"""

import json
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Self

from postroom.client import Client
from postroom.errors import InvalidMail, KeyConflict, PostroomError, Unavailable, UnknownJob
from postroom.jobs.callbacks import NO_CALLBACKS, Callbacks
from postroom.jobs.job import Act, Delivery, Hold, Receipt, Status
from postroom.jobs.job_filter import JobFilter
from postroom.mail.address import Address, normal_form
from postroom.mail.model import Mail
from postroom.mail.validation import MAX_MESSAGE, too_large
from postroom.store.intake_codec import check_names
from postroom.store.ledger import Ledger
from postroom.store.operator import Actor, HoldResult, ReleaseResult, Reply
from postroom.store.queries import Group, Page, Records
from postroom.store.shared_content import Common, Entry

SENDER = "noreply@contoso.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A mail that was taken in. `on_accepted` and `on_dead` are the calls that would be made: task, queue, args …"""

    id: str
    mail: Mail
    key: str | None
    batch: str | None
    on_accepted: Mapping[str, Any] | None
    on_dead: Mapping[str, Any] | None


class Outbox:
    """Replaces Postroom for every `Client` of this process, while its `with` block runs.

    `sender` is the default sender, like POSTROOM_SENDER; None for none.
    """

    def __init__(self, sender: str | None = SENDER) -> None:
        self._ledger = _Memory()
        self._sender = Address.parse(sender) if sender else None
        self._before: list[tuple[Ledger, Address | None] | None] = []

    def __enter__(self) -> Self:
        self._before.append(Client.stand_in)
        Client.stand_in = self._ledger, self._sender
        return self

    def __exit__(self, *_: object) -> None:
        Client.stand_in = self._before.pop()

    @property
    def sent(self) -> list[Sent]:
        """All mails that were taken in, the oldest first. A mail that was sent again with its key is there once."""
        return [job.sent for job in self._ledger.jobs.values()]

    @property
    def mails(self) -> list[Mail]:
        """The mails of `sent`, each with its sender."""
        return [one.mail for one in self.sent]

    def end(self, job_id: str, status: Status = Status.ACCEPTED, reason: str | None = None) -> None:
        """Ends a job with this status, as `status` and `wait` then show. Does not call `on_accepted` or `on_dead`."""
        self._ledger.end(job_id, status, reason)

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """While this block runs, each call of a client raises Unavailable, as if Redis were down."""
        self._ledger.is_away = True
        try:
            yield
        finally:
            self._ledger.is_away = False


@dataclass(slots=True)
class _Job:
    sent: Sent
    fingerprint: str
    delivery: Delivery


class _Memory(Ledger):
    """The part of a ledger that `Client` needs, in this process's memory."""

    def __init__(self) -> None:
        self.jobs: dict[str, _Job] = {}
        self.is_away = False
        self.lock = threading.RLock()
        self.records = _MemoryRecords(self)

    def look(self) -> dict[str, _Job]:
        """The jobs. Raises Unavailable inside `Outbox.unavailable`."""
        if self.is_away:
            raise Unavailable("the Outbox is told to be unavailable")
        return self.jobs

    def take_in(
        self,
        job_id: str,
        mail: Mail,
        key: str | None,
        batch: str | None,
        now: int | None = None,
        calls: Callbacks = NO_CALLBACKS,
    ) -> Receipt:
        check_names(mail, key, batch)
        fingerprint = mail.digest()
        with self.lock:
            known = next((job for job in self.look().values() if key is not None and job.sent.key == key), None)
            if known and known.fingerprint != fingerprint:
                raise KeyConflict(key or "", known.sent.id)
            if known:
                return Receipt(id=known.sent.id, known=True)
            if mail.size > MAX_MESSAGE:
                raise InvalidMail(too_large(mail.size, MAX_MESSAGE))
            sent = Sent(
                id=job_id, mail=mail, key=key, batch=batch, on_accepted=_call(calls.accepted), on_dead=_call(calls.dead)
            )
            self.jobs[job_id] = _Job(sent, fingerprint, _delivery(sent))
            return Receipt(id=job_id, known=False)

    def take_in_many(
        self,
        entries: Sequence[Entry],
        batch: str | None,
        common: Common | None,
        now: int | None = None,
        calls: Callbacks = NO_CALLBACKS,
    ) -> list[Receipt | PostroomError]:
        return [self._one_of_many(entry, batch, calls) for entry in entries]

    def take_in_portions(
        self,
        each: Iterable[tuple[Sequence[Entry], Common | None]],
        batch: str | None,
        now: int | None = None,
        calls: Callbacks = NO_CALLBACKS,
    ) -> Generator[list[Receipt | PostroomError], None, None]:
        for entries, common in each:
            yield self.take_in_many(entries, batch, common, calls=calls)

    def _one_of_many(self, entry: Entry, batch: str | None, calls: Callbacks) -> Receipt | PostroomError:
        try:
            return self.take_in(entry.job_id, entry.mail, entry.key, batch, calls=calls)
        except (InvalidMail, KeyConflict) as error:
            return error

    def cancel_many(self, job_ids: Sequence[str], actor: Actor, now: int | None = None) -> list[Reply]:
        with self.lock:
            return [self._cancel(job_id, actor) for job_id in job_ids]

    def _cancel(self, job_id: str, actor: Actor) -> Reply:
        job = self.look().get(job_id)
        if job is None:
            return Reply(job_id, "unknown", "")
        if job.delivery.status.ended:
            return Reply(job_id, "late", job.delivery.status)
        self.end(job_id, Status.CANCELLED, "cancelled")
        act = Act(at=datetime.now(UTC), by=actor.by, did="cancelled", why=actor.why)
        job.delivery = replace(job.delivery, audit=[act])
        return Reply(job_id, "cancelled", Status.CANCELLED)

    def end(self, job_id: str, status: Status, reason: str | None) -> None:
        if job_id not in self.jobs:
            raise UnknownJob(job_id)
        job = self.jobs[job_id]
        job.delivery = replace(
            job.delivery,
            status=status,
            reason=reason,
            next_at=None,
            http_status=202 if status is Status.ACCEPTED else None,
            ended_at=datetime.now(UTC) if status.ended else None,
        )

    def hold(self, **_: Any) -> HoldResult:
        raise NotImplementedError("an Outbox sends nothing, so there is nothing to hold")

    def release(self, **_: Any) -> ReleaseResult:
        raise NotImplementedError("an Outbox sends nothing, so there is nothing to release")


class _MemoryRecords(Records):
    def __init__(self, ledger: _Memory) -> None:
        self._ledger = ledger

    def read(self, job_id: str, now: int | None = None) -> Delivery:
        if job_id not in self._ledger.look():
            raise UnknownJob(job_id)
        return self._ledger.jobs[job_id].delivery

    def read_many(self, job_ids: Sequence[str]) -> Iterator[Delivery]:
        jobs = self._ledger.look()
        return (jobs[job_id].delivery for job_id in job_ids if job_id in jobs)

    def pages(self, wanted: JobFilter, **_: Any) -> Iterator[Page]:
        for one in self._all(wanted):
            yield Page((one.id,), (Group(one.status, one.reason, in_doubt=False, count=1, newest=one.id),))

    def newest(self, wanted: JobFilter, most: int) -> list[Delivery]:
        return list(islice(self._all(wanted), most))

    def _all(self, wanted: JobFilter) -> Iterator[Delivery]:
        for job in reversed(list(self._ledger.look().values())):
            if _fits(job, wanted):
                yield job.delivery

    def holds(self, now: int | None = None) -> list[Hold]:
        return []


def _fits(job: _Job, wanted: JobFilter) -> bool:
    delivery, mail = job.delivery, job.sent.mail
    return (
        wanted.status in (None, delivery.status)
        and wanted.reason in (None, delivery.reason)
        and wanted.batch in (None, delivery.batch)
        and wanted.key in (None, delivery.key)
        and (not wanted.senders or delivery.sender in map(normal_form, wanted.senders))
        and (wanted.to is None or wanted.to.casefold() in {address.address.casefold() for address in mail.recipients})
        and (wanted.tag is None or wanted.tag in mail.tags)
        and (wanted.since is None or delivery.created_at >= wanted.since)
        and (wanted.until is None or delivery.created_at < wanted.until)
    )


def _call(text: str) -> Mapping[str, Any] | None:
    if not text:
        return None
    fields: dict[str, Any] = json.loads(text)
    return fields | {"args": json.loads(fields["args"]), "kwargs": json.loads(fields["kwargs"])}


def _delivery(sent: Sent) -> Delivery:
    now, mail = datetime.now(UTC), sent.mail
    waits = mail.scheduled_at is not None and mail.scheduled_at > now
    sender = mail.sender.lane if mail.sender else ""
    return Delivery(
        id=sent.id,
        status=Status.DEFERRED if waits else Status.QUEUED,
        reason="scheduled" if waits else None,
        next_at=mail.scheduled_at if waits else None,
        sender=sender,
        lane=sender,
        batch=sent.batch,
        priority=mail.priority,
        key=sent.key,
        recipients=len(mail.recipients),
        attempts=[],
        http_status=None,
        graph_code=None,
        request_id=None,
        created_at=now,
        scheduled_at=mail.scheduled_at if waits else None,
        expires_at=mail.expires_at,
        ended_at=None,
        tags=mail.tags,
    )
