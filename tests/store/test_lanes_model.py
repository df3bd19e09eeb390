"""Whatever happens in whatever order: the ledger against a plain model of what must hold, on a real server.

`HYPOTHESIS_PROFILE=long pytest tests/store/test_lanes_model.py` looks much longer.
"""

import json
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from postroom.errors import InvalidMail, KeyConflict, TooLate
from postroom.jobs.job import Claimant, Job, Receipt
from postroom.jobs.lane_limits import LaneLimits, PublishedSettings
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
from postroom.jobs.ticks import TokenProbe
from postroom.mail.model import Mail
from postroom.mail.priority import Priority
from postroom.store import functions
from postroom.store.ledger import Ledger
from postroom.store.operator import Actor
from postroom.store.shared_content import Sharing

P = "{postroom}:"
LEASE_S = 60.0
DAY = 86_400_000
START = 1_790_000_000_000
POLICY = Policy(max_attempts=3, backoff_s=5.0)
LANES = {
    "a@x.de": LaneLimits(app="one", parallel=2, daily_recipients=9, rates=((3, 10), (5, 60))),
    "b@x.de": LaneLimits(app="one", parallel=4, daily_recipients=500, rates=()),
    "c@y.de": LaneLimits(app="two", parallel=1, daily_recipients=500, rates=((2, 5),)),
}
MOST_PARALLEL = 4  # rules may raise a lane's own number up to this
ENDED = {"accepted", "dead", "cancelled", "expired"}
CELERY = {
    "accepted": "SUCCESS",
    "dead": "FAILURE",
    "expired": "FAILURE",
    "cancelled": "REVOKED",
    "deferred": "RETRY",
    "queued": None,
    "sending": None,
}
KEPT_FOR_EVER = (
    "config",
    "seq",
    "rounds",
    "workers",
    "hands",
    "passed",
    "lane:",
    "app:",
    "marks:",
    "minutes:",
    "uploaded:",
    "chained:",  # for as long as a lease
    "patience",  # both name lanes that are held still, as their next mail will find
    "faults",
)
LOOKING, OUTLOOK = functions.library(
    functions.CODE
    + """
    functions.register('outlook', {'allow-oom'}, function(arguments)
      local at, can_go = scheduling.outlook(arguments[2], config.limits(arguments[2]))
      return {at and values.integer(at) or '', can_go}
    end)"""
)

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
CLASSES = ("check", "high", "again", "normal", "low")
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
class Hand:
    """A round with a claim. It may be stale without knowing it."""

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


class Together:
    """A connection on which the moves of claims go as those of many hands do, several in one call."""

    MOVES = frozenset(functions.LIBRARY + name for name in ("claim", "mark", "note", "settle"))

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def fcall(self, function: str, numkeys: int, *arguments: Any) -> Any:
        if function not in self.MOVES:
            return self._connection.fcall(function, numkeys, *arguments)
        (answer,) = self._connection.fcall(*functions.in_one([(function, numkeys, *arguments)]))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class Lanes(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.redis = redis.Redis.from_url(self.url)
        self.redis.flushall()
        self.ledger = Ledger(Together(self.redis))
        self.now = START
        self.parallel = {lane: limits.parallel for lane, limits in LANES.items()}
        self.jobs: dict[str, Taken] = {}
        self.hands: list[Hand] = []
        self.marked: dict[str, list[int]] = defaultdict(list)
        self.spent: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
        self.turns: dict[str, list[str]] = defaultdict(list)
        self.seen_rounds: dict[str, int] = {}
        self.doubled = 0
        self.ended_early = False  # a person ended a pause
        self.lent: list[TokenProbe] = []
        self.names = iter(range(10**6))
        self.apps: tuple[str, ...] = ()
        self.publish()
        self.tick()

    def teardown(self) -> None:
        self.everything_drains()
        self.everything_is_swept()
        self.redis.close()

    # What producers and operators do.

    def publish(self) -> None:
        self.ledger.publish(
            PublishedSettings(
                defaults=LANES["b@x.de"],
                lanes={
                    lane: LaneLimits(
                        app=limits.app,
                        parallel=self.parallel[lane],
                        daily_recipients=limits.daily_recipients,
                        rates=limits.rates,
                    )
                    for lane, limits in LANES.items()
                },
                aliases={},
                retention_accepted_s=3600,
                retention_dead_s=7200,
                results_here=True,
                hold_probe_s=60,
                hold_patience_s=2000,
                first_look_s=10,
            ),
            now=self.now,
        )
        self.redis.function_load(LOOKING, replace=True)  # after all other libraries were removed

    @rule(lane=st.sampled_from(sorted(LANES)), parallel=st.integers(1, MOST_PARALLEL))
    def publish_rules_anew(self, lane: str, parallel: int) -> None:
        self.parallel[lane] = parallel
        self.publish()

    @rule(what=st.lists(st.sampled_from(sorted(MAILS)), min_size=2, max_size=4))
    def take_in_some(self, what: list[Any]) -> None:
        for one in what:
            self.take_in(one, None, None, None, None, again=False)

    @rule(
        what=st.lists(st.sampled_from(sorted(MAILS)), min_size=2, max_size=4),
        key=st.sampled_from([None, "k1", "k2"]),
        text=st.sampled_from(["a newsletter " * 30, "another one " * 30]),
    )
    def take_in_together(self, what: list[Any], key: str | None, text: str) -> None:
        sharing, keys = Sharing(), [key, *[None] * len(what)]
        mails = [MAILS[one].model_copy(update={"text": text}) for one in what]
        given = [sharing.entry(f"job-{next(self.names)}", mail, key) for mail, key in zip(mails, keys, strict=False)]
        first = self.redis.hget(P + "keys", key) if key else None

        def ask() -> list[Any]:
            said = self.ledger.take_in_many(given, "news", sharing.common(given), now=self.now)
            return [one if isinstance(one, Receipt) else type(one) for one in said]

        told = ask()
        for entry, (lane, recipients, priority), one in zip(given, what, told, strict=True):
            if isinstance(one, Receipt) and not one.known:
                self.jobs[entry.job_id] = Taken(lane, priority.value, recipients)
            elif one is InvalidMail:
                assert recipients > LANES[lane].daily_recipients
            else:
                assert first is not None
        self.changes_nothing(lambda: ask() == told)

    @rule(
        what=st.sampled_from(sorted(MAILS)),
        key=st.sampled_from([None, None, None, "k1", "k2"]),
        batch=st.sampled_from([None, "news"]),
        scheduled=st.sampled_from([None, None, None, 3, 600]),
        expires=st.sampled_from([None, None, None, 20, 700]),
        again=st.booleans(),
    )
    def take_in(
        self, what: Any, key: str | None, batch: str | None, scheduled: int | None, expires: int | None, again: bool
    ) -> None:
        lane, recipients, priority = what
        times = {"scheduled_at": self.at(scheduled), "expires_at": self.at(expires)}
        mail = MAILS[what].model_copy(update={name: time for name, time in times.items() if time})
        job_id = f"job-{next(self.names)}"
        first = self.redis.hget(P + "keys", key) if key else None
        try:
            receipt = self.ledger.take_in(job_id, mail, key, batch, now=self.now)
        except InvalidMail:
            assert recipients > LANES[lane].daily_recipients
            return
        except KeyConflict as conflict:
            assert first is not None
            assert conflict.job_id == first.decode()
            return
        assert receipt.known == (first is not None)
        assert receipt.id == (first.decode() if first else job_id)
        if not receipt.known:
            self.jobs[job_id] = Taken(lane, priority.value, recipients)
        if again:
            self.changes_nothing(lambda: self.ledger.take_in(job_id, mail, key, batch, now=self.now) == receipt)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        status = self.status(job_id)
        if status is None:
            return
        try:
            self.ledger.cancel(job_id, now=self.now)
        except TooLate:
            assert status == "sending" or status in ENDED
        else:
            assert status in {"queued", "deferred", "cancelled"}
            self.changes_nothing(lambda: self.ledger.cancel(job_id, now=self.now) is None)

    @precondition(lambda self: self.dead())
    @rule(data=st.data(), expires=st.sampled_from([None, "never", 30]), twice=st.booleans())
    def requeue(self, data: st.DataObject, expires: Any, twice: bool) -> None:
        job_id = data.draw(st.sampled_from(self.dead()))
        record, order = self.record(job_id), Actor(f"order-{next(self.names)}", "somebody")
        until = self.at(expires) if expires == 30 else expires

        def ask() -> str:
            return self.ledger.requeue([job_id], order, expires=until, twice=twice, now=self.now)[0].said

        said = ask()
        if said in {"busy", "past_expiry"}:
            assert record["place"] == "claim" if said == "busy" else int(record["expires"]) <= self.now
            assert self.record(job_id) == record
            return
        assert said == ("look_up" if "in_doubt" in record and not twice else "requeued")
        self.jobs[job_id].attempts = 0
        self.changes_nothing(lambda: ask() == said)

    @precondition(lambda self: self.dead())
    @rule(data=st.data(), what=st.sampled_from(sorted(MAILS)), twice=st.booleans())
    def replace_letter(self, data: st.DataObject, what: Any, twice: bool) -> None:
        job_id, new_id = data.draw(st.sampled_from(self.dead())), f"job-{next(self.names)}"
        record, order = self.record(job_id), Actor(f"order-{next(self.names)}", "somebody")

        def ask() -> str:
            return self.ledger.replace(job_id, new_id, MAILS[what], ["to"], order, twice=twice, now=self.now)

        try:
            said = ask()
        except InvalidMail:
            assert what[1] > LANES[what[0]].daily_recipients
            return
        if said != "replaced":
            assert said == ("in_doubt" if "in_doubt" in record and not twice else "busy")
            assert self.record(job_id) == record
            return
        self.jobs[new_id] = Taken(what[0], what[2].value, what[1])
        self.changes_nothing(lambda: ask() == "replaced")

    @precondition(lambda self: self.dead())
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        job_id, order = data.draw(st.sampled_from(self.dead())), Actor(f"order-{next(self.names)}", "somebody")
        said = self.ledger.discard([job_id], order, now=self.now)
        assert (said[0].said, self.status(job_id)) == ("discarded", "cancelled")
        self.changes_nothing(lambda: self.ledger.discard([job_id], order, now=self.now) == said)

    @rule(where=st.sampled_from([("lane", "a@x.de"), ("lane", "b@x.de"), ("app", "one")]), wait=st.integers(0, 20))
    def pause(self, where: tuple[str, str], wait: int) -> None:
        self.ended_early |= wait == 0
        till = self.ledger.pause(*where, wait, "operator", now=self.now)
        if wait:
            self.changes_nothing(lambda: self.ledger.pause(*where, wait, "operator", now=self.now) == till)

    @rule(
        what=st.sampled_from([{"sender": "a@x.de"}, {"sender": "c@y.de"}, {"batch": "news"}]),
        length=st.sampled_from([None, 5.0, 400.0]),
        again=st.booleans(),
    )
    def hold(self, what: dict[str, str], length: float | None, again: bool) -> None:
        kept = self.ledger.hold(**what, by="anna", length_s=length, now=self.now)
        if again:
            self.changes_nothing(
                lambda: self.ledger.hold(**what, by="anna", length_s=length, now=self.now).waiting == kept.waiting
            )

    @rule(what=st.sampled_from([{"sender": "a@x.de"}, {"sender": "c@y.de"}, {"batch": "news"}]))
    def release(self, what: dict[str, str]) -> None:
        self.ledger.release(**what, now=self.now)
        assert not self.ledger.release(**what, now=self.now).was_held

    # What rounds do.

    @rule(again=st.booleans())
    def start_round(self, again: bool) -> None:
        if message := self.redis.rpop("postroom.high") or self.redis.rpop("postroom"):
            self.claim(json.loads(json.loads(message)["body"])[0][0], again)

    @rule(lane=st.sampled_from(sorted(LANES)), again=st.booleans())
    def claim(self, lane: str, again: bool) -> None:
        claimant, before = self.claimant(), self.ready(lane)
        job = self.ledger.claim(lane, claimant, now=self.now)
        if job:
            self.claimed(job, before)
            if again:
                self.changes_nothing(lambda: self.ledger.claim(lane, claimant, now=self.now) == job)

    @rule(apps=st.sampled_from([(), ("one",), ("one", "two")]))
    def have_tokens(self, apps: tuple[str, ...]) -> None:
        self.apps = apps

    def claimant(self) -> Claimant:
        return Claimant(f"token-{next(self.names)}", LEASE_S, self.apps)

    @precondition(lambda self: any(hand.sends for hand in self.hands))
    @rule(data=st.data(), again=st.booleans())
    def mark(self, data: st.DataObject, again: bool) -> None:
        self.marks(data.draw(st.sampled_from([hand for hand in self.hands if hand.sends])), again)

    @precondition(lambda self: any(hand.sends and not hand.marks for hand in self.hands))
    @rule(data=st.data(), again=st.booleans())
    def make_a_draft(self, data: st.DataObject, again: bool) -> None:
        hand = data.draw(st.sampled_from([hand for hand in self.hands if hand.sends and not hand.marks]))
        held = self.holds(hand)
        fields = {"drafting": "1"} if not hand.job.drafting else {"draft": f"draft-{next(self.names)}"}
        assert (self.ledger.note(hand.job, fields, 0, LEASE_S, now=self.now) is not None) == held
        if not held:
            self.hands.remove(hand)
            return
        hand.job = hand.job._replace(drafting=True, draft=fields.get("draft", hand.job.draft))
        if again:
            self.changes_nothing(lambda: self.ledger.note(hand.job, fields, 0, LEASE_S, now=self.now) is not None)

    def marks(self, hand: Hand, again: bool = False) -> None:
        request_id, held = f"request-{next(self.names)}", self.holds(hand)
        wait_s = self.ledger.mark(hand.job, request_id, 1000, LEASE_S, now=self.now)
        assert (wait_s is None) == (not held)
        if wait_s is None:
            self.hands.remove(hand)
        if wait_s != 0:
            return
        self.noted(hand, request_id)
        if again:
            self.changes_nothing(
                lambda: self.ledger.mark(hand.job, request_id, 1000, LEASE_S, now=self.now) == 0,
            )

    def noted(self, hand: Hand, request_id: str) -> None:
        assert not self.jobs[hand.job.id].left, "accepted once, and marked again"
        if not hand.marks:
            self.spent[hand.job.lane].append((self.now, hand.job.token, self.jobs[hand.job.id].recipients))
        hand.marks.append(request_id)
        self.marked[hand.job.lane].append(self.now)

    @precondition(lambda self: self.hands)
    @rule(
        data=st.data(),
        chance=st.floats(0, 0.99),
        goes_on=st.booleans(),
        slice_expired=st.booleans(),
        again=st.booleans(),
    )
    def settle(self, data: st.DataObject, chance: float, goes_on: bool, slice_expired: bool, again: bool) -> None:
        hand = data.draw(st.sampled_from(self.hands))
        outcome = data.draw(st.sampled_from(hand.may_meet()))
        self.settles(hand, outcome, chance, goes_on, slice_expired, again)

    @rule(
        lane=st.sampled_from(sorted(LANES)),
        outcomes=st.lists(st.sampled_from(AFTER_THE_MARK), min_size=1, max_size=4),
        took=st.integers(0, 3000),
        chance=st.floats(0, 0.99),
    )
    def work_a_while(self, lane: str, outcomes: list[Outcome], took: int, chance: float) -> None:
        self.claim(lane, again=False)
        for outcome in outcomes:
            if not self.hands or self.hands[-1].job.lane != lane or self.hands[-1].has_asked:
                return
            if not self.hands[-1].sends:
                self.settles(self.hands[-1], self.hands[-1].may_meet()[len(outcomes) - 1], chance)
                continue
            if not self.hands[-1].marks:
                self.marks(self.hands[-1])
            if not self.hands or not self.hands[-1].marks:
                return
            self.now += took
            self.settles(self.hands[-1], outcome, chance)

    def settles(
        self, hand: Hand, outcome: Any, chance: float = 0.5, goes_on: bool = True, slice_expired: bool = False,
        again: bool = False,
    ) -> None:  # fmt: skip
        self.hands.remove(hand)
        job, taken = hand.job, self.jobs[hand.job.id]
        held, in_doubt, record = self.holds(hand), self.doubted(hand), self.record(job.id)
        move, status = hand.move(outcome, chance), self.status(job.id)
        before = self.ready(job.lane)
        said = {
            "claimant": self.claimant() if goes_on else None,
            "slice_expired": slice_expired,
            "now": self.now,
        }
        recorded, following = self.ledger.settle(job, move, outcome, 5, **said)
        believed = in_doubt and isinstance(outcome, Accepted)
        assert recorded == (held or believed)
        if isinstance(outcome, Accepted | Found) and recorded:
            taken.left = True
        if held:
            taken.attempts += move.spends_attempt
            out_of_patience = {"dead"} if isinstance(outcome, Held) else set()
            # it may be due at once, and be the next one
            once_more = {"sending"} if following and following.marked and following.id == job.id else set()
            assert self.status(job.id) in {move.status or status, "expired", "accepted", *out_of_patience, *once_more}
            if move.sent_nothing:
                self.spent[job.lane] = [spent for spent in self.spent[job.lane] if spent[1] != job.token]
        elif not believed and (following is None or following.id != job.id):
            assert self.record(job.id) == record
        if following:
            waits = () if self.record(job.id).get("place") == "ended" else (job.id,)
            self.claimed(following, before, came_back=waits)
        if again:
            self.changes_nothing(lambda: self.ledger.settle(job, move, outcome, 5, **said) == (recorded, following))

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        self.hands.remove(data.draw(st.sampled_from(self.hands)))

    # What befalls Celery's messages, and time.

    @rule(queue=st.sampled_from(["postroom", "postroom.high"]))
    def lose_a_round(self, queue: str) -> None:
        self.redis.lpop(queue)

    @rule(queue=st.sampled_from(["postroom", "postroom.high"]))
    def double_a_round(self, queue: str) -> None:
        if message := self.redis.lindex(queue, 0):
            self.redis.lpush(queue, message)
            self.doubled += 1

    @rule(ms=st.one_of(st.integers(1, 3000), st.sampled_from([10_000, 31_000, 61_000, 3_600_000, 90_000_000])))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @rule()
    def tick(self) -> None:
        self.lent += self.ledger.tick("worker", 8, LEASE_S, now=self.now).probes

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), instead=st.sampled_from([None, *BEFORE_THE_MARK[:4]]), again=st.booleans())
    def probe_for_a_token(self, data: st.DataObject, instead: Any, again: bool) -> None:
        probe = data.draw(st.sampled_from(self.lent))
        self.lent.remove(probe)
        self.ledger.probed(probe, instead, now=self.now)
        if again:
            self.changes_nothing(lambda: self.ledger.probed(probe, instead, now=self.now) is None)

    @rule(seconds=st.sampled_from([3, 12, 70]))
    def the_clock_runs(self, seconds: int) -> None:
        for _ in range(min(seconds, 12)):
            self.now += seconds * 1000 // min(seconds, 12)
            self.tick()
            self.rounds_are_few()  # sees which are young

    # What must hold.

    def claimed(self, job: Job, before: dict[str, set[str]], came_back: tuple[str, ...] = ()) -> None:
        """A new claim is the right one, and not one too many."""
        taken, record = self.jobs[job.id], self.record(job.id)
        assert not taken.left or job.clean_up, "accepted once, and claimed again"
        assert job.attempts == taken.attempts
        assert job.lane == taken.lane
        assert int(record.get("next_at", 0)) <= self.now or self.ended_early, "only a person lets it go before its time"
        assert job.in_doubt or job.clean_up or int(record.get("expires", self.now + 1)) > self.now
        assert self.redis.zcard(f"{P}claims:{job.lane}") <= self.parallel[job.lane]
        for state in (f"lane:{job.lane}", f"app:{LANES[job.lane].app}"):
            assert int(self.redis.hget(P + state, "pause_until") or 0) <= self.now
            assert self.redis.hget(P + state, "held_for") is None, "only a token ends this hold"
        for state in (f"lane:{job.lane}", *([] if job.to_look_up or job.clean_up else [f"held:{record.get('batch')}"])):
            since, until = self.redis.hmget(P + state, "stopped_since", "stopped_until")
            assert since is None or int(until or self.now + 1) <= self.now, "a person holds it"
        self.in_turn(job, {c: ids - set(came_back) for c, ids in before.items()})
        hand = Hand(job)
        self.hands.append(hand)
        if job.marked:
            assert LANES[job.lane].app in self.apps
            self.noted(hand, job.token)

    def in_turn(self, job: Job, ready: dict[str, set[str]]) -> None:
        own, turns = self.class_of(self.record(job.id)), self.turns[job.lane]
        same = [i for i in ready[own] if self.record(i).get("place") == "ready"]
        assert all(int(self.record(job.id)["seq"]) < int(self.record(i)["seq"]) for i in same if i != job.id)
        if own == "check":
            return
        assert not [i for i in ready["check"] if self.record(i).get("place") == "ready"], "doubts are looked up first"
        better = {
            "high": set(),
            "again": ready["high"],
            "normal": ready["high"],
            "low": ready["high"] | ready["normal"],
        }[own]
        passed_over = {i for i in better if self.status(i) not in ENDED and self.status(i) is not None}
        assert not passed_over or own == "low", "only a low one may go before a better one"
        turns.append("early" if passed_over else "low" if own == "low" or not ready["low"] else "low waits")
        assert turns[-10:].count("early") <= 1, "low has one claim in ten, no more"
        assert turns[-10:] != ["low waits"] * 10, "low has one claim in ten, no less"

    @invariant()
    def every_job_is_in_exactly_one_place(self) -> None:
        state = self.snapshot()
        records = {name.removeprefix("job:"): value for name, value in state.items() if name.startswith("job:")}
        places = Counter[tuple[str, str]]()
        for name, value in state.items():
            kind, _, rest = name.partition(":")
            if kind == "aside":
                for job_id in value:
                    places[job_id, kind] += 1
                    assert records[job_id]["batch"] == rest
            if kind in {"ready", "later", "claims"}:
                lane = rest.rpartition(":")[2]
                for job_id in value:
                    places[job_id, kind.removesuffix("s")] += 1
                    assert records[job_id]["lane"] == lane
                    assert kind != "ready" or rest.startswith(self.class_of(records[job_id]))
        assert places == {(i, r["place"]): 1 for i, r in records.items() if r["place"] != "ended"}
        self.indexes_agree(state, records)
        self.claims_agree(state, records)
        self.results_agree(state, records)
        assert set(records) <= set(self.jobs)

    def indexes_agree(self, state: dict[str, Any], records: dict[str, dict[str, str]]) -> None:
        found, expected = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        for name, value in state.items():
            if name.startswith(("status:", "to:", "batch:")):
                found[name] = set(value)
            if name == "keys":
                found |= {f"keys:{key}": {job_id} for key, job_id in value.items()}
        for job_id, record in records.items():
            names = [f"status:{record['status']}", *(f"to:{token}" for token in record["to"].split())]
            names += [f"keys:{record['key']}"] if "key" in record and "replaced_by" not in record else []
            names += [f"batch:{record['batch']}"] if "batch" in record else []
            for name in names:
                expected[name].add(job_id)
            assert (record["place"] == "ended" or "tidy" in record) == (record["status"] in ENDED)
            part = state.get(f"shared:{record.get('shared')}", {})
            has_mail = (f"mail:{job_id}" in state, job_id in part)
            gone = record["status"] in {"accepted", "cancelled"}
            assert has_mail == ((False, False) if gone else ("shared" not in record, "shared" in record))
            waits = (
                record["place"] in {"ready", "later", "aside"}
                and not {"in_doubt", "tidy"} & set(record)
                and "expires" in record
            )
            assert not waits or job_id in state["expiring"]
        assert found == expected
        assert all(records[i]["place"] != "ended" for i in state.get("expiring", ()))
        assert {n.partition(":")[2] for n in state if n.startswith(("mail:", "attempts:"))} <= set(records)
        parts = {n.partition(":")[2]: value for n, value in state.items() if n.startswith("shared:")}
        assert set(state.get("shares", {}).values()) == set(parts)
        for number, part in parts.items():
            those = {i for i, record in records.items() if record.get("shared") == number}
            assert part.keys() == {"mail", "files", "digest"} | those
            assert those

    def claims_agree(self, state: dict[str, Any], records: dict[str, dict[str, str]]) -> None:
        claims = {i: score for n, v in state.items() if n.startswith("claims:") for i, score in v.items()}
        unmarked = {i for n, v in state.items() if n.startswith("unmarked:") for i in v}
        claimed = {i for i, r in records.items() if r.get("phase") == "claimed"}
        assert claims == state.get("leases", {})
        assert unmarked == {i for i in claimed if self.class_of(records[i]) != "check"}
        assert (
            set(claims)
            == {i for i, r in records.items() if "token" in r}
            == claimed | {i for i, r in records.items() if r["status"] == "sending"}
        )
        doubts = {i for i, r in records.items() if "in_doubt" in r and r["status"] not in ENDED}
        assert set(state.get("doubts", ())) == doubts
        slow, unknown = set(state.get("hands:slow", ())), set(state.get("hands:unknown", ()))
        assert slow | unknown <= set(claims)
        assert not slow & unknown

    def results_agree(self, state: dict[str, Any], records: dict[str, dict[str, str]]) -> None:
        for job_id, record in records.items():
            meta = state.get(f"celery-task-meta-{job_id}")
            assert (json.loads(meta)["status"] if meta else None) == CELERY[record["status"]]

    @invariant()
    def limits_hold(self) -> None:
        for lane, limits in LANES.items():
            marks = self.marked[lane]
            for count, seconds in limits.rates:
                for newest, oldest in zip(marks[count:], marks, strict=False):
                    assert newest - oldest > seconds * 1000
            for end, _, _ in self.spent[lane]:
                spent = sum(n for at, _, n in self.spent[lane] if end - DAY < at <= end)
                assert spent <= limits.daily_recipients

    @invariant()
    def rounds_are_few(self) -> None:
        young = Counter[str]()
        for queue in ("postroom", "postroom.high"):
            for message in self.redis.lrange(queue, 0, -1):
                said = json.loads(message)
                seen = self.seen_rounds.setdefault(said["headers"]["id"], self.now)
                young[json.loads(said["body"])[0][0]] += self.now - seen < 30_000
        for lane, count in young.items():
            assert int(self.redis.hget(f"{P}lane:{lane}", "asked") or 0) <= MOST_PARALLEL
            assert count <= 2 * MOST_PARALLEL + self.doubled

    @invariant()
    def no_lane_oversleeps(self) -> None:
        for lane in LANES:
            at, can_go = self.redis.fcall(f"{OUTLOOK}outlook", 0, self.now, lane)
            wakes = self.redis.zscore(P + "lanes", lane)
            if at == b"":
                continue
            assert wakes is not None
            asked = int(self.redis.hget(f"{P}lane:{lane}", "asked") or 0)
            assert wakes <= max(int(at), self.now + (30_000 if asked else 5_000)), (lane, wakes - self.now, can_go)

    # How it ends.

    def everything_drains(self) -> None:
        """With every round message lost, and from here on every mail accepted."""
        self.hands.clear()
        for what in ({"sender": "a@x.de"}, {"sender": "c@y.de"}, {"batch": "news"}):
            self.ledger.release(**what, now=self.now)
        for step in range(600):
            if step % 2:
                self.redis.delete("postroom", "postroom.high")
            ticked = self.ledger.tick("worker", 8, LEASE_S, now=self.now)
            for probe in ticked.probes:
                self.ledger.probed(probe, None, now=self.now)
            while message := self.redis.rpop("postroom.high") or self.redis.rpop("postroom"):
                self.claim(json.loads(json.loads(message)["body"])[0][0], again=False)
                self.finish_all()
            if not self.redis.zcard(P + "lanes") and not self.redis.zcard(P + "leases"):
                break
            leased = self.redis.exists(P + "leases")
            self.now += max(1, round(min(ticked.sleep_s, 5.0 if leased else 1e9) * 1000))
        self.every_job_is_in_exactly_one_place()
        self.limits_hold()
        assert {self.status(i) for i in self.jobs} <= {None, *ENDED}

    def finish_all(self) -> None:
        while self.hands:
            hand = self.hands[0]
            if hand.job.clean_up:
                self.settles(hand, TIDYING[0])
            elif hand.job.to_look_up:
                self.settles(hand, NotPermitted())
            elif hand.marks:
                self.settles(hand, AFTER_THE_MARK[0])
            elif self.ledger.mark(hand.job, f"request-{next(self.names)}", 1000, LEASE_S, now=self.now) == 0:
                self.spent[hand.job.lane].append((self.now, hand.job.token, self.jobs[hand.job.id].recipients))
                self.marked[hand.job.lane].append(self.now)
                self.settles(hand, AFTER_THE_MARK[0])
            else:
                self.settles(hand, BEFORE_THE_MARK[1])

    def everything_is_swept(self) -> None:
        for taken_id, taken in self.jobs.items():
            assert not taken.left or self.status(taken_id) in {"accepted", None}
        for _ in range(4):
            self.now += 4_000_000
            self.tick()
        self.redis.delete("postroom", "postroom.high")
        left = [name for name in self.snapshot() if not name.startswith(KEPT_FOR_EVER)]
        assert [name for name in left if not name.startswith("recipients:")] == []
        assert not any(name.endswith(":waiting") for name in self.snapshot())

    # Looking.

    def at(self, seconds: int | None) -> datetime | None:
        return None if seconds is None else datetime.fromtimestamp(self.now / 1000, UTC) + timedelta(seconds=seconds)

    def dead(self) -> list[str]:
        return sorted(i for i in self.jobs if self.status(i) in {"dead", "expired"})

    def record(self, job_id: str) -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.redis.hgetall(f"{P}job:{job_id}").items()}

    def status(self, job_id: str) -> str | None:
        found = self.redis.hget(f"{P}job:{job_id}", "status")
        return found.decode() if found else None

    def holds(self, hand: Hand) -> bool:
        record = self.record(hand.job.id)
        return record.get("place") == "claim" and record.get("token") == hand.job.token

    def doubted(self, hand: Hand) -> bool:
        return hand.job.token in self.record(hand.job.id).get("doubted", "").split()

    def ready(self, lane: str) -> dict[str, set[str]]:
        """The ids that wait in the lane, once what is due has joined them."""
        self.redis.fcall(f"{OUTLOOK}outlook", 0, self.now, lane)
        ids = {c: self.redis.zrange(f"{P}ready:{c}:{lane}", 0, -1) for c in CLASSES}
        return {c: {i.decode() for i in found} for c, found in ids.items()}

    def class_of(self, record: dict[str, str]) -> str:
        if "tidy" in record or ("in_doubt" in record and "resend" not in record):
            return "check"
        return "again" if "resend" in record else record["priority"]

    def snapshot(self) -> dict[str, Any]:
        """All that is in Redis but for Celery's queue: name without prefix -> value."""
        names = [name for name in self.redis.scan_iter(count=1000) if not name.startswith(b"postroom")]
        pipe = self.redis.pipeline(transaction=False)
        for name in names:
            pipe.type(name)
        kinds = pipe.execute()
        for name, kind in zip(names, kinds, strict=True):
            match kind:
                case b"hash":
                    pipe.hgetall(name)
                case b"zset":
                    pipe.zrange(name, 0, -1, withscores=True)
                case b"set":
                    pipe.smembers(name)
                case b"list":
                    pipe.lrange(name, 0, -1)
                case _:
                    pipe.get(name)
        return {n.decode().removeprefix(P): _plain(v) for n, v in zip(names, pipe.execute(), strict=True)}

    def changes_nothing(self, repeat: Any) -> None:
        before = self.snapshot()
        assert repeat(), "another answer to the same call"
        assert self.snapshot() == before


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return value.decode()
        case dict():
            return {_plain(k): _plain(v) for k, v in value.items()}
        case set():
            return {_plain(v) for v in value}
        case [(bytes(), float()), *_] as pairs:
            return {_plain(k): score for k, score in pairs}
        case [[bytes(), float()], *_] as pairs:
            return {_plain(k): score for k, score in pairs}
        case list():
            return [_plain(v) for v in value]
        case _:
            return value


LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


@pytest.mark.timeout(0 if LONG else 120)
def test_whatever_happens_the_lanes_keep_their_promises(server: str) -> None:
    run_state_machine_as_test(
        type("LanesHere", (Lanes,), {"url": server}),
        settings=settings(
            max_examples=3000 if LONG else 30,
            stateful_step_count=120 if LONG else 50,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            database=None,
        ),
    )
