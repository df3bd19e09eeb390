"""What is recorded of jobs, as it is read: one job, those that fit, or all of an index page by page."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from postroom.errors import PostroomError, UnknownJob
from postroom.jobs.job import Attempt, Delivery, Hold, Status, milliseconds_of, moment, recipient_token
from postroom.store import functions as scripts
from postroom.store.functions import PREFIX

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
    """One page of a walk."""

    ids: tuple[str, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which jobs a list is of: those that fit all that is given, and were taken in from `since` to before `till`."""

    status: Status | None = None
    reason: str | None = None
    to: str | None = None
    batch: str | None = None
    senders: Sequence[str] = ()  # of any of these
    since: datetime | None = None
    till: datetime | None = None

    @property
    def index(self) -> str:
        """The shortest index that has them all."""
        if self.to is not None:
            return f"to:{recipient_token(self.to)}"
        if self.batch is not None:
            return f"batch:{self.batch}"
        return f"status:{self.status}" if self.status else "jobs"

    def to_json(self) -> str:
        """The filter as page.lua reads it."""
        given = {
            "status": self.status,
            "reason": self.reason,
            "to": self.to and recipient_token(self.to),
            "batch": self.batch,
            "senders": [sender.casefold() for sender in self.senders],
            "since": milliseconds_of(self.since),
            "till": milliseconds_of(self.till),
        }
        return json.dumps({name: value for name, value in given.items() if value})


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

    def __init__(self, connection: scripts.Connection) -> None:
        self._redis = connection

    def walk(
        self,
        index: str,
        *,
        reason: str | None = None,
        sender: str | None = None,
        batch: str | None = None,
        since: datetime | None = None,
        page: int = 1000,
    ) -> Iterator[Page]:
        """The jobs of an index ("status:dead", "batch:NAME") that fit, newest first, in bounded pages.

        What leaves the index meanwhile may be missed, what enters it is not seen: a walk always ends.
        """
        given = {"reason": reason, "sender": sender and sender.casefold(), "batch": batch}
        wanted = json.dumps({name: value for name, value in given.items() if value})
        before: str | bytes = ""
        while True:
            arguments = (index, before, milliseconds_of(since) or "-inf", page, wanted)
            before, ids, groups = scripts.run(self._redis, "walk", None, *arguments)
            yield Page(tuple(job_id.decode() for job_id in ids), tuple(_group(group) for group in groups))
            if not before:
                return

    def page(
        self, wanted: Wanted, most: int, after: Cursor | None = None, *, looks: int = 2000
    ) -> tuple[list[Delivery], Cursor | None]:
        """Jobs that fit, newest first, and where the next page begins; None if there is none.

        It looks at `looks` jobs at most, so a page may be short, or empty, though another follows. Pages stay as they
        are while jobs are taken in. The order is that of intake; with only a `status` that ends jobs, of their ends.
        """
        place = (after.score, after.job_id) if after else ("", "")
        score, last, ids = scripts.run(self._redis, "page", None, wanted.index, *place, most, looks, wanted.to_json())
        deliveries = list(self.read_many([job_id.decode() for job_id in ids])) if ids else []
        return deliveries, Cursor(score.decode(), last.decode()) if score else None

    def payload(self, job_id: str) -> bytes | None:
        """The mail of a job as it was taken in, as JSON; None if it is no longer kept."""
        parts: list[bytes] = scripts.run(self._redis, "payload", None, job_id)
        return parts[0] if parts else None

    def read(self, job_id: str, now: int | None = None) -> Delivery:
        """What became of this job so far. UnknownJob if there is none."""
        delivery = next(iter(self.read_many([job_id])), None)
        if delivery is None:
            raise UnknownJob(job_id)
        if delivery.status not in (Status.QUEUED, Status.DEFERRED):
            return delivery
        till, reason, held, pace, full_at = (
            part.decode() for part in scripts.run(self._redis, "paused", now, delivery.lane, delivery.batch or "")
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
        with scripts.or_unavailable():
            pipe = self._redis.pipeline(transaction=True)
            for job_id in job_ids:
                pipe.hgetall(f"{PREFIX}job:{job_id}")
                pipe.lrange(f"{PREFIX}attempts:{job_id}", 0, -1)
            answers = pipe.execute()
        for job_id, record, attempts in zip(job_ids, answers[::2], answers[1::2], strict=True):
            if record:
                fields = {name.decode(): value.decode() for name, value in record.items()}
                yield Delivery.from_record(job_id, fields, [*map(_attempt, attempts), *_under_way(fields)])

    def find(
        self,
        *,
        status: Status | None = None,
        to: str | None = None,
        batch: str | None = None,
        sender: str | None = None,
        key: str | None = None,
        limit: int,
    ) -> list[Delivery]:
        """The newest jobs that fit all that is given, at most `limit`."""
        wanted = {
            name: value
            for name, value in (
                ("status", status),
                ("batch", batch),
                ("sender", sender and sender.casefold()),
                ("key", key),
            )
            if value is not None
        }
        deliveries: list[Delivery] = []
        for page in self._pages(status, to, batch, key):
            deliveries += [job for job in self.read_many(page) if all(getattr(job, n) == v for n, v in wanted.items())]
            if len(deliveries) >= limit:
                break
        return sorted(deliveries, key=lambda job: job.created_at, reverse=True)[:limit]

    def _pages(self, status: Status | None, to: str | None, batch: str | None, key: str | None) -> Iterator[list[str]]:
        if key is not None:
            with scripts.or_unavailable():
                known = self._redis.hget(PREFIX + "keys", key)
            if known:
                yield [known.decode()]
            return
        if to is not None:
            indexes = [f"{PREFIX}to:{recipient_token(to)}"]
        elif batch is not None:
            indexes = [f"{PREFIX}batch:{batch}"]
        else:
            indexes = [f"{PREFIX}status:{s}" for s in ([status] if status else Status)]
        step, start = 200, 0
        while True:
            with scripts.or_unavailable():
                pipe = self._redis.pipeline(transaction=False)
                for index in indexes:
                    pipe.zrevrange(index, start, start + step - 1)
                ids = [job_id.decode() for part in pipe.execute() for job_id in part]
            if not ids:
                return
            yield ids
            start += step

    def lane_of(self, sender: str) -> str:
        """The lane that this sender's mail waits in, by what the workers published."""
        with scripts.or_unavailable():
            lane = self._redis.hget(f"{PREFIX}config", f"alias:{sender.casefold()}")
        return lane.decode() if lane else sender.casefold()

    def addresses_of(self, lane: str) -> set[str]:
        """The senders that share this lane: the mailbox itself, and its aliases."""
        with scripts.or_unavailable():
            published = self._redis.hgetall(f"{PREFIX}config").items()
        aliases = {
            name.decode().removeprefix("alias:"): value.decode()
            for name, value in published
            if name.startswith(b"alias:")
        }
        return {address for address, its in aliases.items() if its == lane} | {lane}.difference(aliases)

    def holds(self, now: int | None = None) -> list[Hold]:
        """All that is held now, by faults and by people."""
        return [_hold(json.loads(text)) for text in scripts.run(self._redis, "list_holds", now)]


def _group(group: Sequence[bytes]) -> Group:
    status, reason, in_doubt, count, newest, _ = group
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
        )


def _hold(fields: Mapping[str, Any]) -> Hold:
    ends, probe = fields.get("ends"), fields.get("next_probe")
    return Hold(
        scope=fields["scope"],
        name=fields["name"],
        reason=fields["reason"],
        since=moment(fields["since"]),
        by=fields.get("by"),
        until=moment(ends) if ends else None,
        next_probe=moment(probe) if probe else None,
        waiting=fields.get("waiting"),
    )
