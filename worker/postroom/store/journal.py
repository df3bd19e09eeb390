"""The journal: what became of mails, as entries of a Redis stream that consumers read.

A consumer subscribes by its name, reads entries (each is given to one reader only), and acknowledges them. An entry
that it does not acknowledge is given again by `retry`. So each entry is handled at least once, except where a
consumer lags so far behind that the journal drops the oldest entries (`JOURNAL_ENTRIES`, `JOURNAL_BYTES`); `lag`
tells how many.

The tasks of `on_accepted` and `on_dead` are a promise: they wait in a stream of their own, from which nothing is
dropped.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis

from postroom.errors import PostroomError
from postroom.jobs.job import milliseconds, moment
from postroom.store import functions as scripts
from postroom.store.constants import PREFIX

KINDS = ("attempt", "ended")
JOURNAL, CALLBACKS = f"{PREFIX}journal", f"{PREFIX}callbacks"
# An entry that was refused, or whose reader died, is given again after this long; twice as long each further time.
FIRST_RETRY_S, LONGEST_RETRY_S = 30.0, 3600.0
_PAGE, _PAGES = 100, 20
_FORGOTTEN_AFTER_S = 86400.0  # a reader that has nothing under way and asked for nothing


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: `kind` is attempt, ended or callback; `fields` has the rest of it (docs/data-model.md)."""

    id: str
    kind: str
    job_id: str
    time: datetime
    fields: Mapping[str, str]
    tries: int = 1  # how often it was given to a reader

    @property
    def attempt(self) -> Mapping[str, Any]:
        """The attempt as the job's record has it: number, at, outcome, http_status, request_id, …"""
        attempt: Mapping[str, Any] = json.loads(self.fields["attempt"])
        return attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a consumer is behind: entries it has not been given (None: not known), and those not acknowledged.

    `oldest` is when the oldest of these was written; `dropped` counts what it lost because it lagged.
    """

    consumer: str
    kinds: tuple[str, ...]
    waiting: int | None
    pending: int
    oldest: datetime | None
    dropped: int


class Stream:
    """A stream with consumer groups, as one reader sees it. Raises Unavailable."""

    def __init__(self, connection: Any, reader: str, key: str) -> None:
        self._redis, self._reader, self._key = connection, reader, key

    def read(self, consumer: str, count: int, wait_s: float) -> list[Entry]:
        """The next entries that no reader of this consumer has been given, in their order; none after `wait_s`.

        `wait_s` must be shorter than the connection's time-out.
        """
        with scripts.or_unavailable():
            try:
                reply = self._next(consumer, count, wait_s)
            except redis.exceptions.ResponseError as error:
                self._raise_unless_lost(error)
                self.restore(consumer)
                reply = self._next(consumer, count, wait_s)
        return [_entry(entry_id, fields) for _, entries in reply or () for entry_id, fields in entries if fields]

    def retry(self, consumer: str, count: int) -> list[Entry]:
        """Entries that were refused, or whose reader died, and whose time has come; this reader has them now."""
        with scripts.or_unavailable():
            try:
                due = self._due(consumer, count)
                return [entry for one in due if (entry := self._claim(consumer, *one))]
            except redis.exceptions.ResponseError as error:
                self._raise_unless_lost(error)
                return []

    def acknowledge(self, consumer: str, ids: Sequence[str]) -> None:
        """These entries are done."""
        with scripts.or_unavailable():
            if ids:
                self._redis.xack(self._key, consumer, *ids)

    def restore(self, consumer: str) -> None:
        """Makes the consumer group if there is none; it begins with the oldest entry that is there."""
        with scripts.or_unavailable(), suppress(redis.exceptions.ResponseError):  # there is one already
            self._redis.xgroup_create(self._key, consumer, id="0", mkstream=True)

    def forget_readers(self, consumer: str) -> None:
        """Forgets readers that have asked for nothing for a day, as processes that are gone."""
        with scripts.or_unavailable():
            for reader in self._redis.xinfo_consumers(self._key, consumer):
                if not reader["pending"] and reader["idle"] > milliseconds(_FORGOTTEN_AFTER_S):
                    self._redis.xgroup_delconsumer(self._key, consumer, reader["name"])

    def _next(self, consumer: str, count: int, wait_s: float) -> Any:
        block = max(1, milliseconds(wait_s))  # 0 would be for ever
        return self._redis.xreadgroup(consumer, self._reader, {self._key: ">"}, count=count, block=block)

    def _due(self, consumer: str, count: int) -> list[tuple[bytes, int, int]]:
        """Ids of entries to be given again, each with how often it was given, and after how many ms it is due."""
        due: list[tuple[bytes, int, int]] = []
        start: str = "-"
        for _ in range(_PAGES):
            page = self._redis.xpending_range(self._key, consumer, start, "+", _PAGE, idle=milliseconds(FIRST_RETRY_S))
            for one in page:
                wait_s = min(FIRST_RETRY_S * 2 ** min(one["times_delivered"] - 1, 20), LONGEST_RETRY_S)
                if one["time_since_delivered"] >= milliseconds(wait_s):
                    due.append((one["message_id"], one["times_delivered"], milliseconds(wait_s)))
            if len(page) < _PAGE or len(due) >= count:
                break
            start = f"({page[-1]['message_id'].decode()}"
        return due[:count]

    def _claim(self, consumer: str, entry_id: bytes, tries: int, wait_ms: int) -> Entry | None:
        """None where another reader was faster, or the entry is gone."""
        claimed = self._redis.xclaim(self._key, consumer, self._reader, wait_ms, [entry_id])
        return next((_entry(found, fields, tries + 1) for found, fields in claimed if fields), None)

    def _raise_unless_lost(self, error: redis.exceptions.ResponseError) -> None:
        """The group is gone where somebody deleted the stream."""
        if not str(error).startswith("NOGROUP"):
            raise error


class Journal(Stream):
    """The journal, which is written only for those who have subscribed."""

    def __init__(self, connection: Any, reader: str) -> None:
        super().__init__(connection, reader, JOURNAL)

    def subscribe(self, consumer: str, kinds: Iterable[str] = KINDS) -> None:
        """The consumer gets entries of these kinds from now on; nothing changes if it does so already."""
        wanted = sorted(set(kinds))
        if not wanted or not set(wanted) <= set(KINDS) or not consumer.isidentifier():
            raise PostroomError(f"{consumer!r} cannot have entries of {wanted}: a name, and some of {', '.join(KINDS)}")
        scripts.run(self._redis, "subscribe", None, consumer, " ".join(wanted))

    def unsubscribe(self, consumer: str) -> None:
        """Nothing is kept for it any more."""
        scripts.run(self._redis, "unsubscribe", None, consumer)

    def acknowledge(self, consumer: str, ids: Sequence[str]) -> None:
        """These entries are done; what all consumers have done is removed."""
        if ids:
            scripts.run(self._redis, "acknowledge", None, consumer, *ids)

    def lag(self) -> list[Lag]:
        """How far each consumer is behind, by their names."""
        rows = [json.loads(text) for text in scripts.run(self._redis, "journal_lag", None)]
        return sorted((_lag(row) for row in rows), key=lambda lag: lag.consumer)


class CallbackStream(Stream):
    """Tasks to be called at the end of mails; nothing is dropped from it, and each is pushed once."""

    def __init__(self, connection: Any, reader: str) -> None:
        super().__init__(connection, reader, CALLBACKS)

    def push(self, consumer: str, entry: Entry, now: int | None = None) -> None:
        """Puts the task on its queue and acknowledges the entry, in one step. PostroomError where Redis refuses."""
        answer, *why = scripts.run(self._redis, "push_callback", now, consumer, entry.id)
        if answer == b"refused":
            raise PostroomError(why[0].decode())


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes], tries: int = 1) -> Entry:
    texts = {name.decode(): value.decode() for name, value in fields.items()}
    time = moment(int(texts.pop("time")))
    return Entry(entry_id.decode(), texts.pop("kind"), texts.pop("job"), time, texts, tries)


def _lag(row: Mapping[str, Any]) -> Lag:
    return Lag(
        consumer=row["consumer"],
        kinds=tuple(row["kinds"].split()),
        waiting=row.get("waiting"),
        pending=row["pending"],
        oldest=moment(row["oldest"]) if "oldest" in row else None,
        dropped=row["dropped"],
    )
