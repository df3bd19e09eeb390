"""A Round: a worker takes jobs from one lane, one after the other, until the lane has none for now.

A Celery task begins with the round that its message asks for. Where more rounds wait in the queue, the hand goes on
with the next of them, for some seconds, and others are invited to do so: each without a task of its own, which costs as
much as a mail. Losing a round's message, or running it twice, loses and doubles nothing: what is true stands in the
ledger.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from postroom.delivery.attempt import deliver
from postroom.delivery.context import ClaimLost, NoToken, Office
from postroom.delivery.drafts import tidy
from postroom.delivery.lookup import look_up
from postroom.errors import Unavailable
from postroom.jobs.job import Claimant, Job
from postroom.jobs.outcome import Answer, Deferred, Finding, Outcome, Tidied
from postroom.jobs.retry import Move, Policy, after_look_up, after_tidying, decide
from postroom.jobs.ticks import Ticked, TokenProbe
from postroom.runtime.failpoints import Failpoint, hit
from postroom.telemetry.events import Emit
from postroom.telemetry.redaction import mask_address, place_of

Done = TypeVar("Done", bound=Outcome | Finding | Tidied)
Said = TypeVar("Said")

SLICE_S = 1.0  # then a round steps aside, if other lanes wait
LONGEST_TASK_S = 10.0  # then a hand goes back to Celery


class Ledger(Protocol):
    def claim(self, lane: str, claimant: Claimant, *, elsewhere: bool) -> Job | None: ...
    def settle(
        self,
        job: Job,
        move: Move,
        outcome: Outcome | Finding | Tidied,
        duration_ms: int,
        *,
        claimant: Claimant | None,
        slice_over: bool,
        elsewhere: bool,
    ) -> tuple[bool, Job | None]: ...
    def tick(self, worker: str, hands: int, lease_s: float) -> Ticked: ...
    def probed(self, probe: TokenProbe, instead: NoToken | None) -> None: ...
    def results_due(self) -> list[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a round works with. `stopping()`: the worker is to end; the round stops after the mail in hand.

    `invite` asks another hand of this process to do something, if one is free.
    """

    ledger: Ledger
    office: Office
    policy: Policy
    chance: Callable[[], float]
    emit: Emit
    stopping: Callable[[], bool]
    invite: Callable[[Callable[[], None]], None] = lambda _: None
    pause: Callable[[float], None] = time.sleep


def work(lane: str, desk: Desk) -> None:
    """Delivers the lane's jobs while there are any for this round, and then those of the rounds that wait.

    Without a lane only those; other hands are invited to as many of them as there are.
    """
    if desk.stopping():
        return
    try:
        _work(lane, desk)
    except Unavailable as error:  # until the worker was to end
        desk.emit("round.failed", error=str(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours, which nobody else tells of
        desk.emit("round.failed", error=place_of(error))


def _work(lane: str, desk: Desk) -> None:
    monotonic, claimant = desk.office.monotonic, desk.office.claimant()
    # Perhaps only the answer was lost, and the claim is there, marked with its mail: it must not be left alone.
    job = _answer(lambda: desk.ledger.claim(lane, claimant, elsewhere=True), desk, gives_up=desk.stopping)
    slice_end, task_end = monotonic() + SLICE_S, monotonic() + LONGEST_TASK_S
    while job is not None:
        if job.lane != lane:
            lane, slice_end = job.lane, monotonic() + SLICE_S
        if job.others_wait:
            desk.invite(lambda: work("", desk))
        started = monotonic()
        hit(Failpoint.CLAIMED)
        found = attempt(job, desk)
        hit(Failpoint.ANSWERED)
        took_ms = round((monotonic() - started) * 1000)
        if found is None:
            desk.emit("claim.lost", job=job.id)
            return
        outcome, move = found
        now = monotonic()
        job = _settle(job, move, outcome, took_ms, slice_over=now > slice_end, elsewhere=now < task_end, desk=desk)


def attempt(job: Job, desk: Desk) -> tuple[Outcome | Finding | Tidied, Move] | None:
    """What came of this claim, and what follows; None if the claim was lost."""
    policy, chance = desk.policy, desk.chance
    if job.tidy:
        tidied = desk.office.aside(lambda: guarded(tidy, job, desk))
        return None if tidied is None else (tidied, after_tidying(tidied, policy, chance))
    if job.to_look_up:
        finding = desk.office.aside(lambda: guarded(look_up, job, desk))
        on_unknown = desk.office.on_unknown(job.lane)
        return None if finding is None else (finding, after_look_up(finding, job, policy, on_unknown, chance))
    outcome = guarded(deliver, job, desk)
    return None if outcome is None else (outcome, decide(outcome, job.attempts, policy, chance, suspect=job.suspect))


def guarded(do: Callable[[Job, Office], Done], job: Job, desk: Desk) -> Done | Deferred | None:
    """What `do` says of this job, None if its claim was lost. An error of ours is one that may pass."""
    try:
        return do(job, desk.office)
    except ClaimLost:
        return None
    except Unavailable:
        return Deferred(reason="redis_unavailable", free=True)
    except Exception as error:  # noqa: BLE001 - before the mark nothing was sent, and the next mail must not suffer
        desk.emit("round.failed", job=job.id, error=place_of(error))
        return Deferred(reason="internal_error", answer=Answer(detail=type(error).__name__))


def _settle(
    job: Job,
    move: Move,
    outcome: Outcome | Finding | Tidied,
    took_ms: int,
    *,
    slice_over: bool,
    elsewhere: bool,
    desk: Desk,
) -> Job | None:
    """Records the move however long Redis is away, for a 202 that is not recorded would be sent again."""
    # Decided once: a repeated call whose first reply was lost must find the claim that the first one made.
    claimant = None if desk.stopping() else desk.office.claimant()

    def settle() -> tuple[bool, Job | None]:
        return desk.ledger.settle(
            job, move, outcome, took_ms, claimant=claimant, slice_over=slice_over, elsewhere=elsewhere
        )

    recorded, following = _answer(settle, desk)
    hit(Failpoint.SETTLED)
    _tell(job, move, outcome, took_ms, recorded=recorded, emit=desk.emit)
    return following


def _answer(ask: Callable[[], Said], desk: Desk, *, gives_up: Callable[[], bool] = lambda: False) -> Said:
    """What the ledger answers, however long Redis is away; Unavailable only once it `gives_up`."""
    wait = 0.05
    while True:
        try:
            return ask()
        except Unavailable:
            if gives_up():
                raise
            desk.pause(wait)
            wait = min(wait * 2, 1.0)


def _tell(
    job: Job, move: Move, outcome: Outcome | Finding | Tidied, took_ms: int, *, recorded: bool, emit: Emit
) -> None:
    answer = outcome.answer
    facts = {
        "reason": move.reason,
        "fault": getattr(outcome, "reason", None),
        "http_status": answer.http_status,
        "graph_code": answer.graph_code,
        "request_id": answer.request_id,
        "wait_s": move.wait_s if move.pause is None else move.pause.wait_s,
    }
    event = f"mail.{move.status}" if move.status else "draft.removed" if move.tidied else "draft.kept"
    emit(
        event if recorded else "claim.lost",
        job=job.id,
        lane=mask_address(job.lane),
        ms=took_ms,
        **{name: value for name, value in facts.items() if value is not None},
    )
