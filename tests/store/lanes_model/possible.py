"""What may happen in the model: mailboxes, mails, answers, and rounds with their claims."""

from dataclasses import dataclass, field
from typing import Any

from postroom.jobs.job import Job
from postroom.jobs.lane_limits import LaneLimits
from postroom.jobs.outcome import (
    Accepted,
    Answer,
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
from postroom.jobs.retry import OnUnknown, Policy, Transition, after_clean_up, after_lookup, decide
from postroom.mail.model import Mail
from postroom.mail.priority import Priority

LEASE_S = 60.0
POLICY = Policy(max_attempts=3, backoff_s=5.0)
LANES = {
    "a@x.de": LaneLimits(app="one", parallel=2, daily_recipients=9, rates=((3, 10), (5, 60))),
    "b@x.de": LaneLimits(app="one", parallel=4, daily_recipients=500, rates=()),
    "c@y.de": LaneLimits(app="two", parallel=1, daily_recipients=500, rates=((2, 5),)),
}
MOST_PARALLEL = 4  # rules may raise a lane's own number up to this
ENDED = {"accepted", "dead", "cancelled", "expired"}

ANSWER = Answer(http_status=503, graph_code="busy")
BEFORE_THE_MARK: list[Outcome] = [
    Throttled(answer=Answer(http_status=429), wait_s=7.0, scope=Scope.APP),
    Throttled(wait_s=1.0),
    Deferred(reason="entra", free=True, scope=Scope.APP),
    Deferred(reason="not_here", free=True, scope=Scope.LANE),
    Deferred(reason="internal_error"),
    Held(reason="secret", scope=Scope.APP, no_token=True),
    Held(reason="consent", scope=Scope.APP),
    Refused(reason="template"),
]
AFTER_THE_MARK: list[Outcome] = [
    Accepted(answer=Answer(http_status=202, request_id="r")),
    Accepted(answer=Answer(http_status=202)),
    Throttled(answer=Answer(http_status=429), wait_s=30.0),
    Throttled(answer=Answer(http_status=429)),
    Deferred(reason="server", answer=ANSWER),
    Deferred(reason="stalled", free=True),
    Deferred(reason="no_connection", free=True, scope=Scope.APP),
    Held(reason="policy", scope=Scope.LANE, answer=Answer(http_status=403)),
    Held(reason="token_rejected", scope=Scope.APP, answer=Answer(http_status=401)),
    Refused(reason="bad", answer=Answer(http_status=400)),
    Unknown(reason="timeout"),
]
LOOK_UPS: list[LookupResult] = [
    Found(answer=Answer(http_status=200)),
    NotFound(answer=Answer(http_status=200)),
    NotFound(answer=Answer(http_status=200)),
    NotPermitted(answer=Answer(http_status=403)),
    Throttled(answer=Answer(http_status=429), wait_s=5.0),
    Deferred(reason="look_up_failed", free=True, answer=ANSWER),
    Deferred(reason="no_connection", free=True, scope=Scope.APP),
    Held(reason="secret", scope=Scope.APP, no_token=True),
]
OF_A_DRAFT: list[LookupResult] = [
    *LOOK_UPS,
    StillDraft(answer=Answer(http_status=200)),
    NotFound(answer=Answer(http_status=404), draft_gone=True),
]
TIDYING: list[Outcome | CleanedUp] = [
    CleanedUp(),
    CleanedUp(),
    Deferred(reason="server", answer=ANSWER),
    Throttled(wait_s=2.0),
]
MAILS = {
    (lane, n, priority): Mail(sender=lane, to=[f"r{i}@z.de" for i in range(n)], text="x", priority=priority)
    for lane in LANES
    for n in (1, 2, 5, 12)
    for priority in Priority
}


@dataclass
class Taken:
    """A job as the model knows it."""

    lane: str
    priority: str
    recipients: int
    left: bool = False  # Graph has accepted it
    attempts: int = 0


@dataclass
class Holder:
    """A round that holds a claim. It may have lost it without knowing."""

    job: Job
    marks: list[str] = field(default_factory=list)

    @property
    def has_asked(self) -> bool:
        """Whether it has marked its job itself."""
        return bool(self.marks) and self.marks != [self.job.token]

    @property
    def sends(self) -> bool:
        return not self.job.to_look_up and not self.job.clean_up

    def may_meet(self) -> list[Any]:
        if self.job.clean_up:
            return TIDYING
        if self.job.to_look_up:
            return OF_A_DRAFT if self.job.draft else LOOK_UPS
        return AFTER_THE_MARK if self.marks else BEFORE_THE_MARK

    def move(self, outcome: Any, chance: float) -> Transition:
        if self.job.clean_up:
            return after_clean_up(outcome, POLICY, lambda: chance)
        if self.job.to_look_up:
            return after_lookup(outcome, self.job, POLICY, OnUnknown.RESEND, lambda: chance)
        return decide(outcome, self.job.attempts, POLICY, lambda: chance, suspect=self.job.suspect)
