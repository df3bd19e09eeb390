"""Figures of the whole system. Their cost grows with the number of waiting lanes, not with the number of jobs."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import redis

from postroom.cloudevents.unmatched import EventNotes
from postroom.jobs.job import Hold, Status, moment
from postroom.jobs.job_filter import JobFilter
from postroom.jobs.queues import HIGH_QUEUE, NORMAL_QUEUE
from postroom.jobs.ticks import WORKER_LOST_AFTER_S
from postroom.store import functions
from postroom.store.functions import PREFIX
from postroom.store.journal import Journal, Lag
from postroom.store.queries import Records

LOST_AFTER_S = WORKER_LOST_AFTER_S
MOST_DEAD = 100_000
MOST_LANES = 20_000
_LANES_A_PAGE = 50  # a few milliseconds of Redis


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker process: `slots` is how many mails it sends at once, `silent_s` how long ago it ticked.

    `version`, the fingerprints of its `settings` and `templates`, and `redirect_all_to` are None where it does not say:
    in versions that do not, or if that is not set. `expiring` are the apps whose credential ends soon, and when.
    """

    name: str
    slots: int
    silent_s: float
    version: str | None = None
    settings: str | None = None
    templates: str | None = None
    redirect_all_to: str | None = None
    expiring: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        return self.silent_s <= LOST_AFTER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """How many jobs of a lane are `ready` to go, wait for a time (`later`), or are claimed (`sending`).

    `pace` is the part of its full pace that the lane has since Graph throttled it; None means full pace.
    """

    lane: str
    app: str
    ready: int
    later: int
    sending: int
    wakes_at: datetime
    paused_until: datetime | None
    pause_reason: str | None
    oldest_due_at: datetime | None
    pace: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory that Redis uses, in bytes. `most` is its maxmemory, None if it has none."""

    used: int
    most: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The figures at one time.

    `dead_by_reason` counts the newest 100,000 dead letters. `holds` is what is held, and the apps that cannot be
    reached. `lanes` are of the 20,000 lanes that wake up first. `events` counts events that made no mail, by reason.
    """

    at: datetime
    workers: list[Worker]
    jobs: Mapping[str, int]
    in_doubt: int
    dead_by_reason: Mapping[str, int]
    holds: list[Hold]
    journal: list[Lag]
    waiting_lanes: int
    lanes: list[Lane]
    oldest_due_s: float | None
    rounds_queued: int
    events: Mapping[str, int]
    memory: Memory | None

    @property
    def slots(self) -> int:
        return sum(worker.slots for worker in self.workers if worker.alive)

    @property
    def expiring(self) -> dict[str, datetime]:
        """The apps whose credential ends within 30 days for a living worker, with when the first of them ends."""
        ends: dict[str, datetime] = {}
        for worker in self.workers:
            for app, end in worker.expiring.items() if worker.alive else ():
                ends[app] = min(end, ends.get(app, end))
        return ends

    @property
    def forms(self) -> dict[str, dict[str, list[str]]]:
        """By `version`, `settings` and `templates`: each form that living workers go by, and the names of these."""
        found: dict[str, dict[str, list[str]]] = {"version": {}, "settings": {}, "templates": {}}
        for worker in self.workers:
            for fact, by_form in found.items():
                if worker.alive and (form := getattr(worker, fact)) is not None:
                    by_form.setdefault(form, []).append(worker.name)
        return found


def read(connection: Any, lanes: int, *, reasons: bool = True) -> Stats:
    """The figures of now, with the `lanes` lanes that have the largest backlog. Raises Unavailable.

    Without `reasons`, dead letters are not counted by reason, and the cost does not grow with their number.
    """
    now, workers = _workers(connection)
    with functions.or_unavailable():
        pipe = connection.pipeline(transaction=False)
        for status in Status:
            pipe.zcard(f"{PREFIX}status:{status}")
        pipe.zcard(f"{PREFIX}doubts")
        pipe.zcard(f"{PREFIX}lanes")
        pipe.llen(NORMAL_QUEUE)
        pipe.llen(HIGH_QUEUE)
        *counts, in_doubt, waiting_lanes, normal, high = pipe.execute()
    largest, oldest = _backlog(connection, lanes)
    return Stats(
        at=now,
        workers=workers,
        jobs=dict(zip((status.value for status in Status), counts, strict=True)),
        in_doubt=in_doubt,
        dead_by_reason=_dead_by_reason(connection) if reasons else {},
        holds=Records(connection).holds(),
        journal=Journal(connection, "stats").lag(),
        waiting_lanes=waiting_lanes,
        lanes=largest,
        oldest_due_s=None if oldest is None else max((now - oldest).total_seconds(), 0.0),
        rounds_queued=normal + high,
        events=EventNotes(connection).counts(),
        memory=_memory(connection),
    )


def lanes(connection: Any, most: int) -> list[Lane]:
    """The lanes with the largest backlog. Raises Unavailable."""
    return _backlog(connection, most)[0]


def alive(connection: Any, host: str | None = None) -> list[Worker]:
    """The workers that ticked within the last 15 s; with `host` only those on that machine. Raises Unavailable."""
    return [
        worker for worker in _workers(connection)[1] if worker.alive and host in (None, worker.name.rpartition(":")[0])
    ]


def _workers(connection: Any) -> tuple[datetime, list[Worker]]:
    with functions.or_unavailable():
        pipe = connection.pipeline(transaction=False)
        pipe.time()
        pipe.hgetall(PREFIX + "workers")  # one field for each worker process
        (seconds, micros), records = pipe.execute()
    now, known = seconds + micros / 1e6, Records(connection).workers_facts()
    workers = []
    for name, entry in sorted(records.items()):
        seen, slots = entry.split()
        silent, facts = max(now - int(seen) / 1000, 0.0), known.get(name.decode())
        worker = Worker(name=name.decode(), slots=int(slots), silent_s=round(silent, 1))
        if facts:
            told = {fact: getattr(facts, fact) for fact in ("version", "settings", "templates", "redirect_all_to")}
            ends = {app: moment(end) for app, end in facts.expiring.items()}
            worker = replace(worker, **told, expiring=ends)
        workers.append(worker)
    return moment(round(now * 1000)), workers


def _backlog(connection: Any, most: int) -> tuple[list[Lane], datetime | None]:
    largest: list[Lane] = []
    oldest: datetime | None = None
    for first in range(0, MOST_LANES, _LANES_A_PAGE):
        rows = [_lane(row) for row in functions.run(connection, "backlog", None, first, _LANES_A_PAGE)]
        largest = heapq.nlargest(most, [*largest, *rows], key=lambda lane: (lane.ready + lane.later, lane.ready))
        oldest = min(
            [*([oldest] if oldest else []), *(row.oldest_due_at for row in rows if row.oldest_due_at)], default=None
        )
        if len(rows) < _LANES_A_PAGE:
            break
    return largest, oldest


def _lane(row: list[Any]) -> Lane:
    lane, app, ready, later, sending, wakes, paused, reason, due, pace = row
    return Lane(
        lane=lane.decode(),
        app=app.decode(),
        ready=ready,
        later=later,
        sending=sending,
        wakes_at=moment(int(float(wakes))),
        paused_until=moment(int(paused)) if paused else None,
        pause_reason=reason.decode() or None,
        oldest_due_at=moment(int(due)) if due else None,
        pace=1 / int(pace) if pace else None,
    )


def _dead_by_reason(connection: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for page in Records(connection).pages(JobFilter(status=Status.DEAD)):
        for group in page.groups:
            counts[group.reason or ""] = counts.get(group.reason or "", 0) + group.count
        if sum(counts.values()) >= MOST_DEAD:
            break
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _memory(connection: Any) -> Memory | None:
    with functions.or_unavailable():
        try:
            info = connection.info("memory")
        except redis.exceptions.ResponseError:  # some hosted servers do not allow it
            return None
    return Memory(used=int(info["used_memory"]), most=int(info.get("maxmemory") or 0) or None)
