"""What follows an outcome: the one place that decides about a job's next step.

The life of a mail that fails:

1. Throttled: the lane pauses as long as Graph asked (doubled when it asks again and again); no attempt is spent.
2. Deferred: the job waits, longer each time and at random (full jitter), and spends an attempt; when the last one
   is spent it is dead. Where Graph says when to come back to the mailbox, the lane pauses until then. A fault that is
   not the mail's (`free`) pauses lane or app instead and spends nothing.
3. Held: the lane or the app is held, and the job waits unspent for the repair, up to HOLD_PATIENCE. Where others of
   its lane were sent meanwhile (`suspect`), it is the job's own fault and treated as such.
4. Refused: dead at once.
5. Unknown: the job waits in doubt and is looked up, several times over minutes. Found: accepted. Else, once there is
   no more to learn, it is sent again or left for a person (`after_lookup`): only once where nobody could look.

Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from postroom.jobs.job import Job, Status
from postroom.jobs.lane_limits import UNKNOWN_LOOKUPS_S
from postroom.jobs.outcome import (
    Accepted,
    CleanedUp,
    Deferred,
    Found,
    Held,
    LookupResult,
    NotFound,
    NotPermitted,
    Outcome,
    Refused,
    Scope,
    StillDraft,
    Throttled,
    Unknown,
)

LONGEST_BACKOFF_S = 4 * 3600.0
LONGEST_RETRY_AFTER_S = 3600.0
PAUSE_WITHOUT_RETRY_AFTER_S = 10.0
LONGEST_THROTTLE_S = 1800.0  # where Graph names no time, ignoring it was reported to cost half an hour
OUTAGE_S, LONGEST_OUTAGE_S = 2.0, 60.0
HOLD_MAIL_S = 600.0
WITHOUT_LOOK_UPS_S = 10.0
LOOK_AGAIN_S = 60.0


class OnUnknown(StrEnum):
    RESEND = "resend"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """With the defaults the attempts span more than a day: 10 doublings from 5 s, then 4 h at the most between two."""

    max_attempts: int = 30
    backoff_s: float = 5.0
    # Seconds after an unknown outcome at which it is looked up, rising.
    look_ups_s: tuple[float, ...] = UNKNOWN_LOOKUPS_S

    @property
    def first_look_s(self) -> float:
        return self.look_ups_s[0] if self.look_ups_s else WITHOUT_LOOK_UPS_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """`wait_s` is for the first time; while the trouble goes on the ledger doubles it, up to `longest_s`."""

    scope: Scope
    wait_s: float
    longest_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Where a job goes after an attempt. `wait_s` is None where only a pause or a hold stands before its next claim.

    `look_ups`: how many have been made, where this was one. `resend`: it is sent again, as soon as its lane works.
    """

    status: Status | None  # None: it had ended before, and only its draft was removed
    reason: str | None = None
    wait_s: float | None = None
    spends_attempt: bool = False
    in_doubt: bool = False
    look_ups: int | None = None
    resend: bool = False
    cleaned_up: bool = False
    sent_nothing: bool = False
    pause: Pause | None = None
    hold: Held | None = None


def decide(
    outcome: Outcome, attempts: int, policy: Policy, chance: Callable[[], float], *, suspect: bool = False
) -> Transition:
    """The move that follows `outcome`. `attempts` were spent before; `chance()` gives a number in [0, 1).

    `suspect`: this job's answer held its lane before, and another job's ended that hold.
    """
    match outcome:
        case Accepted():
            return Transition(status=Status.ACCEPTED)
        case Throttled(wait_s=wait_s, scope=scope):
            asked = PAUSE_WITHOUT_RETRY_AFTER_S if wait_s is None else wait_s
            wait = min(max(asked, 1.0), LONGEST_RETRY_AFTER_S)
            pause = Pause(scope=scope, wait_s=wait, longest_s=LONGEST_THROTTLE_S, reason="throttled")
            return Transition(status=Status.DEFERRED, reason="throttled", sent_nothing=True, pause=pause)
        case Deferred(free=True, scope=Scope.MAIL, wait_s=wait_s):
            return Transition(status=Status.DEFERRED, reason="backoff", wait_s=wait_s or OUTAGE_S, sent_nothing=True)
        case Deferred(free=True, scope=scope, wait_s=wait_s, reason=reason):
            wait = min(wait_s or OUTAGE_S, LONGEST_RETRY_AFTER_S)
            pause = Pause(scope=scope, wait_s=wait, longest_s=LONGEST_OUTAGE_S, reason=reason)
            return Transition(status=Status.DEFERRED, reason="backoff", sent_nothing=True, pause=pause)
        case Deferred(wait_s=wait_s, scope=scope, reason=reason):
            if attempts + 1 >= policy.max_attempts:
                return Transition(status=Status.DEAD, reason=reason, spends_attempt=True, sent_nothing=True)
            asked = min(wait_s or 0.0, LONGEST_RETRY_AFTER_S)
            wait = max(backoff(attempts, policy, chance), asked)
            asked_to_wait = asked > 0 and scope is not Scope.MAIL
            return Transition(
                status=Status.DEFERRED,
                reason="backoff",
                wait_s=wait,
                spends_attempt=True,
                sent_nothing=True,
                pause=Pause(scope=scope, wait_s=asked, longest_s=asked, reason=reason) if asked_to_wait else None,
            )
        case Held(scope=Scope.MAIL):
            return Transition(status=Status.DEFERRED, reason="held", wait_s=HOLD_MAIL_S, sent_nothing=True)
        case Held(scope=Scope.LANE, reason=reason) if suspect:
            return decide(Deferred(reason=reason), attempts, policy, chance)
        case Held():
            return Transition(status=Status.DEFERRED, reason="held", sent_nothing=True, hold=outcome)
        case Refused(reason=reason):
            return Transition(status=Status.DEAD, reason=reason, sent_nothing=True)
        case Unknown(wait_s=wait_s, reason=reason):
            asked = min(wait_s or 0.0, LONGEST_RETRY_AFTER_S)
            return Transition(
                status=Status.DEFERRED,
                reason="unknown",
                wait_s=policy.first_look_s,
                in_doubt=True,
                pause=Pause(scope=Scope.LANE, wait_s=asked, longest_s=asked, reason=reason) if asked > 0 else None,
            )
        case _:
            assert_never(outcome)


def after_clean_up(outcome: Outcome | CleanedUp, policy: Policy, chance: Callable[[], float]) -> Transition:
    """The move of an ended job whose draft was to be removed. If it could not be, that is tried again later."""
    if isinstance(outcome, CleanedUp):
        return Transition(status=None, cleaned_up=True)
    return Transition(status=None, pause=decide(outcome, 0, policy, chance).pause, hold=_of_the_app(outcome))


def _of_the_app(outcome: object) -> Held | None:
    """Whether a mailbox can be sent from is found out by sending alone."""
    return outcome if isinstance(outcome, Held) and outcome.scope is Scope.APP else None


def backoff(attempts: int, policy: Policy, chance: Callable[[], float]) -> float:
    """Seconds to wait after the attempt that follows `attempts` spent ones."""
    return chance() * float(min(policy.backoff_s * 2.0 ** min(attempts, 60), LONGEST_BACKOFF_S))


def after_lookup(
    result: LookupResult, job: Job, policy: Policy, on_unknown: OnUnknown, chance: Callable[[], float]
) -> Transition:
    """The move of a job in doubt that was looked up."""
    made = job.look_ups + 1
    match result:
        case Found():
            return Transition(status=Status.ACCEPTED, look_ups=made)
        case NotFound() | StillDraft() if made < len(policy.look_ups_s):
            wait = policy.look_ups_s[made] - policy.look_ups_s[made - 1]
            return Transition(status=Status.DEFERRED, reason="unknown", wait_s=wait, look_ups=made)
        case StillDraft():
            # It cannot leave twice, however often it is sent.
            may_resend = job.resends < policy.max_attempts
        case NotFound(draft_gone=True):
            may_resend = False
        case NotFound(proves_nothing=False) if policy.look_ups_s:
            # It is in no folder, so it was not sent.
            may_resend = on_unknown is OnUnknown.RESEND and job.resends < policy.max_attempts
        case NotFound() | NotPermitted():
            may_resend = on_unknown is OnUnknown.RESEND and job.resends == 0
        case Throttled() | Held() | Deferred():
            # Whatever stood in the way, it says nothing about the mail.
            pause, hold = decide(result, 0, policy, chance).pause, _of_the_app(result)
            return Transition(
                status=Status.DEFERRED,
                reason="unknown",
                wait_s=None if pause or hold else LOOK_AGAIN_S,
                look_ups=job.look_ups,
                pause=pause,
                hold=hold,
            )
        case _:
            assert_never(result)
    if may_resend:
        return Transition(status=Status.DEFERRED, reason="unknown", look_ups=made, resend=True)
    return Transition(status=Status.DEAD, reason="unknown", look_ups=made)
