"""A Round: a worker takes jobs from one lane, one after the other, until the lane has none for now.

A Celery task begins with the round that its message names. If more rounds wait in the queue, the same fiber goes on
with the next of them for some seconds, and invites other free fibers: a Celery task for each would cost as much as a
mail. If a round's message is lost, or comes twice, no mail is lost or doubled, for the ledger alone says what is to be
done.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from postroom.delivery.attempt import deliver
from postroom.delivery.context import ClaimLost, DeliveryContext, NoToken
from postroom.delivery.drafts import clean_up
from postroom.delivery.lookup import look_up
from postroom.errors import Unavailable
from postroom.jobs.job import Claimant, Job
from postroom.jobs.outcome import Answer, CleanedUp, Deferred, LookupResult, Outcome
from postroom.jobs.retry import Policy, Transition, after_clean_up, after_lookup, decide
from postroom.jobs.ticks import Ticked, TokenProbe
from postroom.runtime.failpoints import Failpoint, hit
from postroom.telemetry.events import Emit
from postroom.telemetry.redaction import mask_address, place_of

Done = TypeVar("Done", bound=Outcome | LookupResult | CleanedUp)
Said = TypeVar("Said")

SLICE_S = 1.0  # then a round ends, if other lanes wait
LONGEST_TASK_S = 10.0  # then a fiber goes back to Celery
# So long a worker that stops tries to record what it knows while Redis is away. Its last mail may take 30 s, and
# operators give a worker 60 s to stop.
LAST_TRIES_S = 20.0


class Ledger(Protocol):
    def claim(self, lane: str, claimant: Claimant, *, may_switch_lane: bool) -> Job | None: ...
    def settle(
        self,
        job: Job,
        transition: Transition,
        outcome: Outcome | LookupResult | CleanedUp,
        duration_ms: int,
        *,
        claimant: Claimant | None,
        slice_expired: bool,
        may_switch_lane: bool,
    ) -> tuple[bool, Job | None]: ...
    def tick(self, worker: str, slots: int, lease_s: float) -> Ticked: ...
    def probed(self, probe: TokenProbe, instead: NoToken | None) -> None: ...
    def results_due(self) -> list[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundContext:
    """What a round works with. Once `stopping()` is true, a round ends after its present mail.

    `invite` gives work to another fiber of this process, if one is free.
    """

    ledger: Ledger
    delivery: DeliveryContext
    policy: Policy
    chance: Callable[[], float]
    emit: Emit
    stopping: Callable[[], bool]
    invite: Callable[[Callable[[], None]], None] = lambda _: None
    pause: Callable[[float], None] = time.sleep


def work(lane: str, context: RoundContext) -> None:
    """Delivers the lane's jobs, then those of the rounds that wait in the queue; with an empty `lane` only the latter.

    Invites other fibers while more rounds wait. Never raises: what went wrong is in the log.
    """
    if context.stopping():
        return
    try:
        _work(lane, context)
    except Unavailable as error:  # Redis was away until the worker had to stop
        context.emit("round.failed", error=str(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours, which must be in the log
        context.emit("round.failed", error=place_of(error))


def _work(lane: str, context: RoundContext) -> None:
    monotonic, claimant = context.delivery.monotonic, context.delivery.claimant()
    # If only the reply was lost, the claim exists, and may be marked already. So it is asked for until Redis replies.
    job = _answer(lambda: context.ledger.claim(lane, claimant, may_switch_lane=True), context, last_tries_s=0)
    slice_end, task_end = monotonic() + SLICE_S, monotonic() + LONGEST_TASK_S
    while job is not None:
        if job.lane != lane:
            lane, slice_end = job.lane, monotonic() + SLICE_S
        if job.others_wait:
            context.invite(lambda: work("", context))
        started = monotonic()
        hit(Failpoint.CLAIMED)
        result = attempt(job, context)
        hit(Failpoint.ANSWERED)
        took_ms = round((monotonic() - started) * 1000)
        if result is None:
            context.emit("claim.lost", job=job.id)
            return
        outcome, transition = result
        now = monotonic()
        job = _settle(
            job,
            transition,
            outcome,
            took_ms,
            slice_expired=now > slice_end,
            may_switch_lane=now < task_end,
            context=context,
        )


def attempt(job: Job, context: RoundContext) -> tuple[Outcome | LookupResult | CleanedUp, Transition] | None:
    """What came of this claim, and what follows; None if the claim was lost."""
    policy, chance = context.policy, context.chance
    if job.clean_up:
        cleaned_up = context.delivery.run_in_thread(lambda: guarded(clean_up, job, context))
        return None if cleaned_up is None else (cleaned_up, after_clean_up(cleaned_up, policy, chance))
    if job.to_look_up:
        result = context.delivery.run_in_thread(lambda: guarded(look_up, job, context))
        on_unknown = context.delivery.on_unknown(job.lane)
        return None if result is None else (result, after_lookup(result, job, policy, on_unknown, chance))
    outcome = guarded(deliver, job, context)
    return None if outcome is None else (outcome, decide(outcome, job.attempts, policy, chance, suspect=job.suspect))


def guarded(do: Callable[[Job, DeliveryContext], Done], job: Job, context: RoundContext) -> Done | Deferred | None:
    """The result of `do` for this job; None if its claim was lost. An error of ours is a fault that may pass."""
    try:
        return do(job, context.delivery)
    except ClaimLost:
        return None
    except Unavailable:
        return Deferred(reason="redis_unavailable", free=True)
    except Exception as error:  # noqa: BLE001 - before the mark nothing was sent; the round must go on with other mail
        context.emit("round.failed", job=job.id, error=place_of(error))
        return Deferred(reason="internal_error", answer=Answer(detail=type(error).__name__))


def _settle(
    job: Job,
    transition: Transition,
    outcome: Outcome | LookupResult | CleanedUp,
    took_ms: int,
    *,
    slice_expired: bool,
    may_switch_lane: bool,
    context: RoundContext,
) -> Job | None:
    """Records the transition, however long Redis is away: a mail whose 202 is not recorded would be sent again.

    Only a worker that stops gives up after a while, and logs what it could not record.
    """
    # The same claimant for each try: if only the first reply was lost, the next try finds the claim of the first.
    claimant = None if context.stopping() else context.delivery.claimant()

    def settle() -> tuple[bool, Job | None]:
        return context.ledger.settle(
            job,
            transition,
            outcome,
            took_ms,
            claimant=claimant,
            slice_expired=slice_expired,
            may_switch_lane=may_switch_lane,
        )

    try:
        recorded, following = _answer(settle, context, last_tries_s=LAST_TRIES_S)
    except Unavailable:
        _log("mail.unrecorded", job, transition, outcome, took_ms, context.emit)
        raise
    hit(Failpoint.SETTLED)
    event = (
        f"mail.{transition.status}" if transition.status else "draft.removed" if transition.cleaned_up else "draft.kept"
    )
    _log(event if recorded else "claim.lost", job, transition, outcome, took_ms, context.emit)
    return following


def _answer(ask: Callable[[], Said], context: RoundContext, *, last_tries_s: float) -> Said:
    """The ledger's reply, however long Redis is away. Raises Unavailable once the worker stops, after so long."""
    monotonic, wait, give_up_at = context.delivery.monotonic, 0.05, math.inf
    while True:
        try:
            return ask()
        except Unavailable:
            if context.stopping():
                give_up_at = min(give_up_at, monotonic() + last_tries_s)
            if monotonic() >= give_up_at:
                raise
            context.pause(wait)
            wait = min(wait * 2, 1.0)


def _log(
    event: str,
    job: Job,
    transition: Transition,
    outcome: Outcome | LookupResult | CleanedUp,
    took_ms: int,
    emit: Emit,
) -> None:
    answer = outcome.answer
    facts = {
        "reason": transition.reason,
        "fault": getattr(outcome, "reason", None),
        "http_status": answer.http_status,
        "graph_code": answer.graph_code,
        "request_id": answer.request_id,
        "wait_s": transition.wait_s if transition.pause is None else transition.pause.wait_s,
    }
    emit(
        event,
        job=job.id,
        lane=mask_address(job.lane),
        ms=took_ms,
        **{name: value for name, value in facts.items() if value is not None},
    )
