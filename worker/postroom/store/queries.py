"""What is recorded of jobs, as it is read: one job, those that fit, or all of an index page by page."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from postroom.errors import PostroomError, UnknownJob
from postroom.jobs.job import Attempt, Delivery, Hold, Status, moment
from postroom.jobs.job_filter import JobFilter
from postroom.jobs.workers import WorkerFacts
from postroom.mail.address import normal_form
from postroom.store import functions
from postroom.store.functions import PREFIX

LOOKS = 1000  # jobs that one call may look at: some milliseconds of Redis
CURSOR = r"^[0-9]{1,16}\.[A-Za-z0-9_.~%-]{1,600}$"


@dataclass(frozen=True, slots=True)
class Group:
    """How many jobs of a page are the same in this respect, and which of them is the newest."""

    status: Status
    reason: str | None
    in_doubt: bool
    count: int
    newest: str


class Page(NamedTuple):
    """The ids of a page of jobs, and how many of them are alike."""

    ids: tuple[str, ...]
    groups: tuple[Group, ...]


class BadCursor(PostroomError):
    """What was given as a cursor is none that a page gave."""


class Cursor(NamedTuple):
    """A place in a list: after this job. It is no secret and allows nothing; whoever makes one up is somewhere else."""

    score: str
    job_id: str

    def __str__(self) -> str:
        return f"{self.score}.{quote(self.job_id, safe='')}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """BadCursor if `text` is none."""
        if not re.fullmatch(CURSOR, text):
            raise BadCursor("cursor: not one that a page gave as next_cursor")
        score, _, job_id = text.partition(".")
        return cls(score, unquote(job_id))


class Records:
    """The records of jobs. Raises Unavailable when Redis does not answer in time."""

    def __init__(self, connection: functions.Connection) -> None:
        self._redis = connection

    def page(
        self, wanted: JobFilter, most: int, after: Cursor | None = None, *, looks: int = LOOKS
    ) -> tuple[list[Delivery], Cursor | None]:
        """Jobs that fit, newest first, and where the next page begins; None if there is none.

        It looks at `looks` jobs at most, so a page may be short, or empty, though another follows. Pages stay as they
        are while jobs are taken in. The order is that of arrival; with a `status` that ends jobs and neither recipient,
        batch nor key, that of their ends.
        """
        page, following = self._page(wanted, most, after, looks)
        return list(self.read_many(page.ids)) if page.ids else [], following

    def pages(self, wanted: JobFilter, *, looks: int = LOOKS) -> Iterator[Page]:
        """All jobs that fit, in the same order, in bounded pages: their ids, and how many are alike.

        What leaves the index meanwhile may be missed, what enters it is not seen, so it always ends.
        """
        place: Cursor | None = None
        while True:
            page, place = self._page(wanted, looks, place, looks)
            yield page
            if place is None:
                return

    def newest(self, wanted: JobFilter, most: int) -> list[Delivery]:
        """The first `most` jobs of that list."""
        deliveries: list[Delivery] = []
        place: Cursor | None = None
        while True:
            more, place = self.page(wanted, most - len(deliveries), place)
            deliveries += more
            if place is None or len(deliveries) >= most:
                return deliveries

    def _page(self, wanted: JobFilter, most: int, after: Cursor | None, looks: int) -> tuple[Page, Cursor | None]:
        place = (after.score, after.job_id) if after else ("", "")
        arguments = (wanted.index, *place, most, looks, wanted.to_json())
        score, last, ids, groups = functions.run(self._redis, "page", None, *arguments)
        page = Page(tuple(job_id.decode() for job_id in ids), tuple(_group(group) for group in groups))
        return page, Cursor(score.decode(), last.decode()) if score else None

    def payload(self, job_id: str) -> bytes | None:
        """The mail of a job as it was taken in, as JSON; None if it is no longer kept."""
        parts: list[bytes] = functions.run(self._redis, "payload", None, job_id)
        return parts[0] if parts else None

    def read(self, job_id: str, now: int | None = None) -> Delivery:
        """What became of this job so far. UnknownJob if there is none."""
        delivery = next(iter(self.read_many([job_id])), None)
        if delivery is None:
            raise UnknownJob(job_id)
        if delivery.status not in (Status.QUEUED, Status.DEFERRED):
            return delivery
        till, reason, held, pace, full_at = (
            part.decode()
            for part in functions.run(self._redis, "paused", now, delivery.lane, delivery.batch or "", delivery.sender)
        )
        return replace(
            delivery,
            paused_until=moment(int(till)) if till else None,
            pause_reason=reason or None,
            hold=_hold(json.loads(held)) if held else None,
            pace=1 / int(pace) if pace else None,
            full_pace_at=moment(int(full_at)) if full_at else None,
        )

    def read_many(self, job_ids: Sequence[str]) -> Iterator[Delivery]:
        """Those of the jobs that there are, in the order asked for."""
        with functions.or_unavailable():
            pipe = self._redis.pipeline(transaction=False)  # a full Redis 7.0 refuses to read in a transaction
            for job_id in job_ids:
                pipe.hgetall(f"{PREFIX}job:{job_id}")
                pipe.lrange(f"{PREFIX}attempts:{job_id}", 0, -1)
            answers = pipe.execute()
        for job_id, record, attempts in zip(job_ids, answers[::2], answers[1::2], strict=True):
            if record:
                fields = {name.decode(): value.decode() for name, value in record.items()}
                ended = [*map(_attempt, attempts)]
                # It may have ended between the two reads.
                open_ones = [one for one in _under_way(fields) if one.number not in {other.number for other in ended}]
                yield Delivery.from_record(job_id, fields, [*ended, *open_ones])

    def lane_of(self, sender: str) -> str:
        """The lane that this sender's mail waits in, by what the workers published."""
        with functions.or_unavailable():
            address = normal_form(sender)
            names = [f"alias:{address}", f"alias:*@{address.rpartition('@')[2]}"]
            own, of_domain = self._redis.hmget(f"{PREFIX}config", names)
        lane = own or of_domain
        return lane.decode() if lane else address

    def addresses_of(self, lane: str) -> set[str]:
        """The senders that share this lane: the mailbox itself, and its aliases."""
        with functions.or_unavailable():
            published = self._redis.hgetall(f"{PREFIX}config").items()
        aliases = {
            name.decode().removeprefix("alias:"): value.decode()
            for name, value in published
            if name.startswith(b"alias:")
        }
        return {address for address, its in aliases.items() if its == lane} | {lane}.difference(aliases)

    def workers_facts(self) -> dict[str, WorkerFacts]:
        """What the living workers go by, by their names. Workers of older versions do not say it."""
        with functions.or_unavailable():
            records = self._redis.hgetall(f"{PREFIX}workers:facts")
        return {name.decode(): WorkerFacts.from_json(facts) for name, facts in records.items()}

    def has_template(self, name: str) -> bool:
        """Whether a living worker has a template of this name."""
        return any(name in facts.names for facts in self.workers_facts().values())

    def holds(self, now: int | None = None) -> list[Hold]:
        """All that is held now, by faults and by people."""
        return [_hold(json.loads(text)) for text in functions.run(self._redis, "list_holds", now)]


def _group(group: Sequence[bytes]) -> Group:
    status, reason, in_doubt, count, newest = group
    return Group(Status(status.decode()), reason.decode() or None, in_doubt == b"1", int(count), newest.decode())


def _attempt(text: bytes) -> Attempt:
    fields = json.loads(text)
    return Attempt(
        number=fields["number"],
        at=moment(fields["at"]),
        outcome=fields["outcome"],
        reason=fields.get("reason"),
        detail=fields.get("detail"),
        http_status=fields.get("http_status"),
        graph_code=fields.get("graph_code"),
        request_id=fields.get("request_id"),
        client_request_id=fields.get("client_request_id"),
        duration_ms=fields.get("duration_ms"),
        worker=fields.get("worker"),
        redirected_to=fields.get("redirected_to"),
    )


def _under_way(record: Mapping[str, str]) -> Iterator[Attempt]:
    """The attempt that is not over: until then it stands in the record."""
    if record.get("phase") == "sending" and "began" in record:
        yield Attempt(
            number=int(record["tries"]),
            at=moment(int(record["began"])),
            outcome="open",
            reason=None,
            detail=None,
            http_status=None,
            graph_code=None,
            request_id=None,
            client_request_id=record.get("client_request_id"),
            duration_ms=None,
            worker=_marked_by(record),
        )


def _marked_by(record: Mapping[str, str]) -> str | None:
    """The worker of the attempt under way; None where an older version marked it, which does not say."""
    number, _, worker = record.get("marked_by", "").partition(" ")
    return worker if worker and number == record["tries"] else None


def _hold(fields: Mapping[str, Any]) -> Hold:
    ends, probe = fields.get("ends"), fields.get("next_probe")
    return Hold(
        scope=fields["scope"],
        name=fields["name"],
        reason=fields["reason"],
        since=moment(fields["since"]),
        by=fields.get("by"),
        sender=fields.get("sender"),
        until=moment(ends) if ends else None,
        next_probe=moment(probe) if probe else None,
        waiting=fields.get("waiting"),
        detail=fields.get("detail") or None,
    )
