"""Events that made no mail, or not all of their mails: they are counted, and the newest are kept for people."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from postroom.cloudevents.parsing import Event
from postroom.jobs.job import moment
from postroom.store import functions
from postroom.store.functions import PREFIX

COUNTS, NEWEST = f"{PREFIX}events:counts", f"{PREFIX}events:newest"
KEPT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """An event without mail. `reason` is `unmatched` (no rule matches), or says why `rule` made no mail."""

    at: datetime
    reason: str
    type: str
    source: str
    event_id: str
    rule: str | None
    faults: tuple[str, ...]
    key: str  # the name of the API key that it came with
    key_id: str = ""


class EventNotes:
    """The notes in Redis. Raises Unavailable."""

    def __init__(self, connection: Any) -> None:
        self._redis = connection

    def add(
        self,
        event: Event,
        reason: str,
        *,
        key: str,
        key_id: str,
        rule: str | None = None,
        faults: tuple[str, ...] = (),
    ) -> None:
        """Counts an event, and keeps its type, source and id. Its data is not kept."""
        with functions.or_unavailable():
            seconds, micros = self._redis.time()
            note = {
                "at": seconds * 1000 + micros // 1000,
                "reason": reason,
                "type": event.type,
                "source": event.source,
                "event_id": event.id,
                "rule": rule,
                "faults": faults,
                "key": key,
                "key_id": key_id,
            }
            pipe = self._redis.pipeline(transaction=True)
            pipe.hincrby(COUNTS, reason, 1)
            pipe.lpush(NEWEST, json.dumps(note))
            pipe.ltrim(NEWEST, 0, KEPT - 1)
            pipe.execute()

    def counts(self) -> dict[str, int]:
        """How many events without mail there have been, by reason."""
        with functions.or_unavailable():
            counts = self._redis.hgetall(COUNTS)
        return {reason.decode(): int(count) for reason, count in sorted(counts.items())}

    def newest(self, most: int) -> list[Note]:
        """The newest `most` notes, newest first."""
        with functions.or_unavailable():
            entries = self._redis.lrange(NEWEST, 0, most - 1)
        return [_note(json.loads(text)) for text in entries]


def _note(fields: dict[str, Any]) -> Note:
    return Note(**{**fields, "at": moment(fields["at"]), "faults": tuple(fields["faults"])})
