"""The figures of /metrics, for Prometheus."""

import threading
import time
from collections.abc import Iterator
from typing import Any

from postroom.errors import Unavailable
from postroom.operations import stats
from postroom.operations.stats import Stats

FRESH_S = 5.0
PATIENCE_S = 2.0


class Metrics:
    """The figures. They are read from Redis at most once in `FRESH_S` seconds, however many requests there are."""

    def __init__(self, connection: Any) -> None:
        self._redis = connection
        self._lock = threading.Lock()
        self._until, self._text = 0.0, ""

    def text(self) -> str:
        """The figures in Prometheus' text format. Raises Unavailable."""
        # While Redis hangs, requests for figures must not take all threads from requests that bring mail.
        if not self._lock.acquire(timeout=PATIENCE_S):
            raise Unavailable("somebody else waits for the figures already")
        try:
            if time.monotonic() >= self._until:
                self._text = "".join(_lines(stats.read(self._redis, 0, reasons=False)))
                self._until = time.monotonic() + FRESH_S
            return self._text
        finally:
            self._lock.release()


def _lines(stats: Stats) -> Iterator[str]:
    jobs: dict[str, float] = {f'{{status="{status}"}}': count for status, count in stats.jobs.items()}
    events: dict[str, float] = {f'{{reason="{reason}"}}': count for reason, count in stats.events.items()}
    alive = sum(worker.alive for worker in stats.workers)
    yield from _metric("postroom_jobs", "gauge", "Jobs whose records are kept, by status.", jobs)
    yield from _metric("postroom_jobs_in_doubt", "gauge", "Jobs that may have been sent.", {"": stats.in_doubt})
    yield from _metric("postroom_lanes_waiting", "gauge", "Lanes in which jobs wait.", {"": stats.waiting_lanes})
    held: dict[str, float] = {}
    for hold in stats.holds:  # without addresses
        labels = f'{{scope="{hold.scope}",reason="{hold.reason if hold.by is None else "person"}"}}'
        held[labels] = held.get(labels, 0) + 1
    yield from _metric("postroom_holds", "gauge", "Holds, and apps that cannot be reached.", held)
    oldest = stats.oldest_due_s or 0.0
    yield from _metric("postroom_oldest_due_seconds", "gauge", "For how long the oldest job is due.", {"": oldest})
    yield from _metric("postroom_workers_alive", "gauge", "Worker processes that tick.", {"": alive})
    forms: dict[str, float] = {f'{{of="{fact}"}}': len(by_form) for fact, by_form in stats.forms.items()}
    redirecting = sum(worker.alive and worker.redirect_all_to is not None for worker in stats.workers)
    yield from _metric(
        "postroom_worker_forms", "gauge", "How many settings, templates and versions workers have.", forms
    )
    yield from _metric("postroom_workers_redirecting", "gauge", "Workers that redirect all mail.", {"": redirecting})
    ends: dict[str, float] = {f'{{app="{app}"}}': end.timestamp() for app, end in stats.expiring.items()}
    yield from _metric(
        "postroom_credential_expires_timestamp_seconds", "gauge", "When credentials end that do so in 30 days.", ends
    )
    yield from _metric("postroom_slots", "gauge", "Mails that these send at once.", {"": stats.slots})
    yield from _metric("postroom_rounds_queued", "gauge", "Rounds that wait for a worker.", {"": stats.rounds_queued})
    yield from _metric("postroom_events_without_mail_total", "counter", "Events that made no mail.", events)
    if stats.memory:
        yield from _metric("postroom_redis_used_bytes", "gauge", "Memory that Redis uses.", {"": stats.memory.used})


def _metric(name: str, kind: str, what: str, values: dict[str, float]) -> Iterator[str]:
    yield f"# HELP {name} {what}\n# TYPE {name} {kind}\n"
    yield from (f"{name}{labels} {value}\n" for labels, value in values.items())
