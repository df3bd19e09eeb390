"""What became of every mail: the ledger held against the sandbox's own record, job by job.

In flight counts what a worker still waits for. The stand-in may hold a request for longer: one that hangs there until
its frozen client closes the connection, or one that is answered after its client has given up. By then the mailbox's
slot is free again, and rightly so: every request has a total deadline, and every lease outlives it.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from postroom import Delivery, Status
from postroom.sandbox.control import RequestRecord
from postroom.sandbox.exchange.traffic import BusiestMinute

MOST_IN_FLIGHT, MOST_PER_MINUTE = 4, 30
CONNECTING_S = 1.0  # a worker's deadline begins before its request arrives: as much earlier, at the most


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """All that is known after a run. `sent` is how often the sandbox accepted each job."""

    mode: str
    mails: int
    receipts: Collection[str]
    ledger: Sequence[Delivery]
    sent: Counter[str]
    requests: Sequence[RequestRecord]
    all_requests_kept: bool
    drafts_left: int
    limited: Collection[str]
    deadline_s: float
    lease_s: float


@dataclass(slots=True, kw_only=True)
class Balance:
    """The account of one run. `broken` says in words which promises did not hold; empty: all did."""

    taken_in: int
    accepted: int
    dead: dict[str, int]
    dead_unsent: int
    waiting: int
    unknown: int
    doubled: int
    doubled_in_doubt: int
    doubled_by_a_frozen_write: int
    lost: int
    in_flight: int
    in_flight_at_the_sandbox: int
    most_in_60_s: int | None  # None: no limited mailbox got any mail
    throttled_by_faults: int
    throttled_by_limits: int
    faults_struck: int
    drafts_left: int
    broken: list[str] = field(default_factory=list)


def balance(record: Record) -> Balance:
    """The account of this record, and what in it is broken."""
    states = Counter(job.status for job in record.ledger)
    doubled = [job for job in record.ledger if record.sent[job.id] > 1]
    throttled = Counter(bool(one.fault) for one in record.requests if one.status == 429)
    busiest = [busiest_minute(record, mailbox) for mailbox in record.limited]
    found = Balance(
        taken_in=len(record.ledger),
        accepted=states[Status.ACCEPTED],
        dead=dict(Counter(f"{job.reason}" for job in record.ledger if job.status is Status.DEAD)),
        dead_unsent=sum(job.status is Status.DEAD and not record.sent[job.id] for job in record.ledger),
        waiting=sum(not job.status.ended for job in record.ledger),
        unknown=sum(was_unknown(job) for job in record.ledger),
        doubled=len(doubled),
        doubled_in_doubt=sum(map(was_unknown, doubled)),
        doubled_by_a_frozen_write=sum(was_written_late(job, record) for job in doubled),
        lost=len(list(lost(record))),
        in_flight=highest_in_flight(record),
        in_flight_at_the_sandbox=max((one.in_flight for one in record.requests), default=0),
        most_in_60_s=max(busiest) if any(busiest) else None,
        throttled_by_faults=throttled[True],
        throttled_by_limits=throttled[False],
        faults_struck=sum(bool(one.fault) for one in record.requests),
        drafts_left=record.drafts_left,
    )
    found.broken = [*broken_by_a_job(record), *broken_by_all(found, record)]
    return found


def was_unknown(job: Delivery) -> bool:
    """Whether an attempt's outcome was recorded as unknown."""
    return any(attempt.outcome == "unknown" for attempt in job.attempts)


def lost(record: Record) -> Iterator[str]:
    """The receipts without a job, and the accepted jobs that the sandbox never saw."""
    known = {job.id for job in record.ledger}
    yield from (receipt for receipt in record.receipts if receipt not in known)
    yield from (job.id for job in record.ledger if job.status is Status.ACCEPTED and not record.sent[job.id])


def was_written_late(job: Delivery, record: Record) -> bool:
    """Whether one of its requests arrived after the lease that it was marked under: its process had been frozen.

    Between the last look at the deadline and the write there is nothing that a process could be asked. One that is
    frozen exactly there writes when it thaws.
    """
    marked = {attempt.client_request_id: attempt.at.timestamp() for attempt in job.attempts}
    return any(
        one.wall - marked[one.client_request_id] > record.lease_s
        for one in record.requests
        if one.accepted and one.client_request_id in marked
    )


def broken_by_a_job(record: Record) -> Iterator[str]:
    """The promises that single jobs show broken, with their stories."""
    for job_id in lost(record):
        yield f"lost: {job_id}"
    for job in record.ledger:
        for what in broken_by(job, record.sent[job.id], record):
            yield f"{what}: {story(job, record)}"
    known = {job.id for job in record.ledger}
    for job_id in record.sent.keys() - known:
        yield f"sent, though nobody took it in: {job_id or 'a mail without a job'}"


def broken_by(job: Delivery, copies: int, record: Record) -> Iterator[str]:
    if not job.status.ended:
        yield "not ended when its time was over"
    elif job.status is not Status.ACCEPTED and copies and not job.in_doubt:
        yield f"called {job.status}, and sent"
    if copies < 2:
        return
    if not was_unknown(job):
        yield f"sent {copies} times, and nobody in doubt"
    elif record.mode == "plain" and copies > 2:
        yield f"sent {copies} times"
    elif record.mode != "plain" and not was_written_late(job, record):
        yield f"sent {copies} times in {record.mode} mode"


def broken_by_all(found: Balance, record: Record) -> Iterator[str]:
    """The promises that the sums show broken."""
    if found.taken_in != record.mails:
        yield f"{record.mails} mails are {found.taken_in} jobs"
    if found.in_flight > MOST_IN_FLIGHT:
        yield f"{found.in_flight} requests of one mailbox in flight"
    if (found.most_in_60_s or 0) > MOST_PER_MINUTE:
        yield f"{found.most_in_60_s} mails of a limited mailbox posted within 60 s"
    if not record.all_requests_kept:
        yield "the sandbox has dropped records of requests: the account is incomplete"


def highest_in_flight(record: Record) -> int:
    """The most requests of one mailbox that workers waited for at once."""
    by_mailbox: dict[str, list[RequestRecord]] = defaultdict(list)
    for one in record.requests:
        if one.mailbox:
            by_mailbox[one.mailbox].append(one)
    patience_s = record.deadline_s - CONNECTING_S
    return max(
        (waited_for(some, place, patience_s) for some in by_mailbox.values() for place in range(len(some))), default=0
    )


def waited_for(arrivals: Sequence[RequestRecord], place: int, patience_s: float) -> int:
    """How many were in flight when this one arrived, without those that had been there for longer than `patience_s`."""
    now, count = arrivals[place].monotonic, 0
    for one in reversed(arrivals[: place + 1]):
        if one.monotonic < now - patience_s:
            break
        # Without a status its connection was left hanging or broken: the record does not say until when it stood.
        count += one.status is None or one.ended is None or one.ended > now
    return min(count, arrivals[place].in_flight)


def busiest_minute(record: Record, mailbox: str) -> int:
    """The most requests that send which arrived for this mailbox within any 60 s."""
    minute = BusiestMinute()
    for one in record.requests:
        if one.mailbox == mailbox and one.stage == "graph":
            minute.add(one.monotonic)
    return minute.most


def story(job: Delivery, record: Record) -> str:
    """What the ledger and the sandbox say of a job, on a line each."""
    ids = {attempt.client_request_id for attempt in job.attempts}
    lines = [f"{job.id} in {job.lane}: {job.status} {job.reason or ''} {waits_for(job)}"]
    for tried in job.attempts:
        said: tuple[object, ...] = (
            tried.outcome,
            tried.reason,
            tried.http_status,
            tried.client_request_id,
            f"{tried.duration_ms} ms",
        )
        lines.append(f"  {tried.at.timestamp():.3f} ledger {' '.join(str(part) for part in said if part)}")
    for one in record.requests:
        if one.job == job.id or one.client_request_id in ids:
            fault = f"fault {one.fault}" if one.fault else ""
            said = (one.stage, one.status or "no answer", one.client_request_id, one.accepted and "accepted", fault)
            lines.append(f"  {one.wall:.3f} sandbox {' '.join(str(part) for part in said if part)}")
    return "\n".join(lines)


def waits_for(job: Delivery) -> str:
    """What keeps a job waiting, as far as the ledger can tell."""
    facts = {"next": job.next_at, "paused until": job.paused_until, "for": job.pause_reason, "hold": job.hold}
    return ", ".join(f"{name} {fact}" for name, fact in facts.items() if fact)
