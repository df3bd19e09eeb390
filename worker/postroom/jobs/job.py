"""A Job: one mail that was taken in; and the forms in which callers see it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from postroom.mail.priority import Priority


class Status(StrEnum):
    QUEUED = "queued"
    DEFERRED = "deferred"  # waits for `next_at`; `reason` says why
    SENDING = "sending"
    ACCEPTED = "accepted"  # Graph answered 202: taken by Exchange, not "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        return self in ENDED


ENDED = frozenset({Status.ACCEPTED, Status.DEAD, Status.CANCELLED, Status.EXPIRED})
# What an attempt's `outcome` says where it was a look-up.
LOOKED_UP = frozenset({"found", "notfound", "stilldraft", "notpermitted"})


# A lease that is not older is as good as a new one: the first mark of an attempt does not renew it.
FRESH_LEASE_S = 0.1
RECIPIENT_TOKEN_LENGTH = 16  # characters of a recipient in the index


class Claimant(NamedTuple):
    """Who asks for a claim: the token that fences it, for how long it is leased.

    `apps`: those that this worker has a token for; a plain mail of theirs is marked in the same step. `asked_at`: when
    the caller asked, in seconds of its monotonic clock. The lease begins no earlier.
    """

    token: str
    lease_s: float
    apps: Sequence[str] = ()
    asked_at: float = 0.0


class Job(NamedTuple):
    """A claimed job, as one round holds it."""

    id: str
    lane: str
    app: str
    token: str
    mail: bytes
    attempts: int  # spent; Deferred outcomes count, waits do not
    in_doubt: bool = False  # an earlier attempt's outcome is unknown
    look_ups: int = 0  # made since then
    resend: bool = False  # looked up enough: to be sent again
    resends: int = 0
    draft: str | None = None  # the id of the message in Drafts that it is sent from
    to_add: tuple[int, ...] = ()  # the places of the attachments that this draft still lacks
    upload: str | None = None  # sealed: the URL of the first one's upload session
    upload_at: int | None = None  # where its next range begins; a worker that was lost may have put that one
    drafting: bool = False  # there may be such a message, or several, whose id nobody has noted
    orphaned_drafts: tuple[str, ...] = ()  # drafts made for claims that were lost
    late_draft: bool = False  # another one may turn up, of a creation that was never answered
    clean_up: bool = False  # ended; only its drafts are left to remove
    sent: bool = False  # accepted: what it was sent from is in Sent Items now
    taken_in_at: datetime | None = None
    others_wait: bool = False  # rounds in the queue, when it was claimed
    marked: bool = False  # with its claim, under the id `token`
    asked_at: float = 0.0  # see Claimant
    suspect: bool = False  # its answer held its lane, and another job's ended that hold

    @property
    def to_look_up(self) -> bool:
        return self.in_doubt and not self.resend


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to hand the mail to Graph. `outcome` is the word of `jobs.outcome`, or open while it runs.

    `number` is 0 for what was no try: a fault found before any request, or a look-up of an earlier try's outcome.
    `worker` is who made it (None for what no worker does, such as the end of a hold, and for attempts that an older
    version has marked and lost), `redirected_to` where this worker sends all mail instead of to its recipients.
    """

    number: int
    at: datetime
    outcome: str
    reason: str | None  # one word
    detail: str | None  # a sentence, where there is more to say; no address, no content
    http_status: int | None
    graph_code: str | None
    request_id: str | None
    client_request_id: str | None
    duration_ms: int | None
    worker: str | None = None
    redirected_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a person did to a job: `did` is requeued, replaced, discarded or cancelled; `why` in their own words.

    Where a letter was changed, `fields` names what is new in its mail, and `job` is the other of the two jobs.
    """

    at: datetime
    by: str
    did: str
    why: str | None
    fields: tuple[str, ...] = ()
    job: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What `send` returns. `known`: this key had been taken in before, and `id` is that first job."""

    id: str
    known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What waits until a fault is repaired, or until a person releases it.

    `scope` is "lane", "app" or "batch". A fault's hold has `next_probe`, a person's `by` and perhaps `until`. An app
    that cannot be reached has `detail`: what went wrong, as the transport words it. With `sender`, only this sender's
    part of a batch is held.
    """

    scope: str
    name: str
    reason: str
    since: datetime
    by: str | None = None
    until: datetime | None = None
    next_probe: datetime | None = None
    waiting: int | None = None  # mails; only in lists of holds
    detail: str | None = None
    sender: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of a job so far. HTTP status, Graph code and request-id are those of the last attempt.

    `in_doubt`: it may have been sent; nobody knows. `audit` is what people did to it, and a dead letter that was sent
    with changes is another job: `replaced_by` here, `requeued_from` there.

    While it waits, `paused_until`, `pause_reason` and `hold` tell what keeps its whole lane, app or batch waiting, and
    `pace` what part of its full pace the lane has since Graph throttled it (None: all of it), which it has again at
    `full_pace_at` if Graph does not again (not in lists).
    """

    id: str
    status: Status
    reason: str | None
    next_at: datetime | None
    sender: str
    lane: str
    batch: str | None
    priority: Priority
    key: str | None
    recipients: int
    attempts: list[Attempt]
    http_status: int | None
    graph_code: str | None
    request_id: str | None
    created_at: datetime
    scheduled_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    tags: tuple[str, ...] = ()
    in_doubt: bool = False
    requeued_from: str | None = None
    replaced_by: str | None = None
    audit: list[Act] = field(default_factory=list)
    paused_until: datetime | None = None
    pause_reason: str | None = None
    hold: Hold | None = None
    pace: float | None = None
    full_pace_at: datetime | None = None

    @classmethod
    def from_record(cls, job_id: str, record: Mapping[str, str], attempts: list[Attempt]) -> "Delivery":
        last = next((attempt for attempt in reversed(attempts) if attempt.outcome not in LOOKED_UP), None)
        return cls(
            id=job_id,
            status=Status(record["status"]),
            reason=record.get("reason") or None,
            next_at=_time(record.get("next_at")),
            sender=record.get("sender", ""),  # what was no mail has perhaps none
            lane=record.get("lane", ""),
            batch=record.get("batch") or None,
            priority=Priority(record["priority"]),
            key=record.get("key") or None,
            recipients=int(record["recipients"]),
            attempts=attempts,
            http_status=last.http_status if last else None,
            graph_code=last.graph_code if last else None,
            request_id=last.request_id if last else None,
            created_at=moment(int(record["created"])),
            scheduled_at=_time(record.get("scheduled")),
            expires_at=_time(record.get("expires")),
            ended_at=_time(record.get("ended")),
            tags=tuple(record["tags"].split("\n")) if record.get("tags") else (),
            in_doubt="in_doubt" in record and record["status"] != Status.ACCEPTED,
            requeued_from=record.get("requeued_from"),
            replaced_by=record.get("replaced_by"),
            audit=[_act(entry) for entry in json.loads(record.get("audit", "[]"))],
        )


def _act(entry: Mapping[str, Any]) -> Act:
    return Act(
        at=moment(entry["at"]),
        by=entry["by"],
        did=entry["did"],
        why=entry.get("why"),
        fields=tuple(entry.get("fields", ())),
        job=entry.get("job"),
    )


def moment(ms: int) -> datetime:
    """The aware UTC time of `ms` milliseconds since 1970."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def milliseconds(seconds: float) -> int:
    """What Redis counts in."""
    return round(seconds * 1000)


def milliseconds_of(time: datetime | None) -> int | str:
    """The same since 1970, as `moment` reads it; empty for None."""
    return "" if time is None else milliseconds(time.astimezone(UTC).timestamp())


def recipient_token(address: str) -> str:
    """The form in which recipients are indexed: no address stands in a key."""
    return hashlib.sha256(address.casefold().encode()).hexdigest()[:RECIPIENT_TOKEN_LENGTH]


def _time(ms: str | None) -> datetime | None:
    return moment(int(ms)) if ms else None
