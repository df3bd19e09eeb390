"""What follows each outcome, as a table."""

import random
from dataclasses import replace
from itertools import accumulate

import pytest

from postroom.jobs.job import Job, Status
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
from postroom.jobs.retry import (
    LONGEST_BACKOFF_S,
    LONGEST_OUTAGE_S,
    LONGEST_THROTTLE_S,
    OnUnknown,
    Pause,
    Policy,
    Transition,
    after_clean_up,
    after_lookup,
    backoff,
    decide,
)

POLICY = Policy(max_attempts=5, backoff_s=10)
DAY_S = 86_400


def half() -> float:
    return 0.5


def throttled(scope: Scope, wait_s: float) -> Transition:
    pause = Pause(scope=scope, wait_s=wait_s, longest_s=LONGEST_THROTTLE_S, reason="throttled")
    return Transition(status=Status.DEFERRED, reason="throttled", sent_nothing=True, pause=pause)


def outage(scope: Scope, wait_s: float) -> Transition:
    pause = Pause(scope=scope, wait_s=wait_s, longest_s=LONGEST_OUTAGE_S, reason="away")
    return Transition(status=Status.DEFERRED, reason="backoff", sent_nothing=True, pause=pause)


def waits(wait_s: float, *, spends_attempt: bool) -> Transition:
    return Transition(
        status=Status.DEFERRED, reason="backoff", wait_s=wait_s, spends_attempt=spends_attempt, sent_nothing=True
    )


def told_when(scope: Scope, wait_s: float) -> Transition:
    pause = Pause(scope=scope, wait_s=wait_s, longest_s=wait_s, reason="busy")
    return replace(waits(wait_s, spends_attempt=True), pause=pause)


@pytest.mark.parametrize(
    ("outcome", "attempts", "expected"),
    [
        (Accepted(), 0, Transition(status=Status.ACCEPTED)),
        (Accepted(), 99, Transition(status=Status.ACCEPTED)),
        (Throttled(wait_s=None), 0, throttled(Scope.LANE, 10)),
        (Throttled(wait_s=42.5), 4, throttled(Scope.LANE, 42.5)),
        (Throttled(wait_s=0.0), 0, throttled(Scope.LANE, 1)),
        (Throttled(wait_s=-5.0), 0, throttled(Scope.LANE, 1)),
        (Throttled(wait_s=1e9), 0, throttled(Scope.LANE, 3600)),
        (Throttled(wait_s=7.0, scope=Scope.APP), 0, throttled(Scope.APP, 7)),
        (Deferred(reason="away", free=True), 99, waits(2, spends_attempt=False)),
        (Deferred(reason="away", free=True, wait_s=7.0), 0, waits(7, spends_attempt=False)),
        (Deferred(reason="away", free=True, scope=Scope.APP), 99, outage(Scope.APP, 2)),
        (Deferred(reason="away", free=True, scope=Scope.LANE, wait_s=9.0), 0, outage(Scope.LANE, 9)),
        (Deferred(reason="away", free=True, scope=Scope.APP, wait_s=1e9), 0, outage(Scope.APP, 3600)),
        (Deferred(reason="busy"), 0, waits(5, spends_attempt=True)),
        (Deferred(reason="busy"), 3, waits(40, spends_attempt=True)),
        (Deferred(reason="busy", wait_s=30.0), 0, waits(30, spends_attempt=True)),
        (Deferred(reason="busy", wait_s=30.0, scope=Scope.LANE), 0, told_when(Scope.LANE, 30)),
        (Deferred(reason="busy", scope=Scope.LANE), 0, waits(5, spends_attempt=True)),
        (Deferred(reason="busy", wait_s=1e9), 0, waits(3600, spends_attempt=True)),
        (
            Deferred(reason="busy"),
            4,
            Transition(status=Status.DEAD, reason="busy", spends_attempt=True, sent_nothing=True),
        ),
        (Refused(reason="bad"), 0, Transition(status=Status.DEAD, reason="bad", sent_nothing=True)),
        (Unknown(reason="timeout"), 0, Transition(status=Status.DEFERRED, reason="unknown", wait_s=10, in_doubt=True)),
        (Unknown(reason="timeout"), 99, Transition(status=Status.DEFERRED, reason="unknown", wait_s=10, in_doubt=True)),
    ],
)
def test_each_outcome_is_followed_by_one_transition(outcome: Outcome, attempts: int, expected: Transition) -> None:
    assert decide(outcome, attempts, POLICY, half) == expected


@pytest.mark.parametrize("scope", [Scope.LANE, Scope.APP])
def test_a_hold_costs_nothing_and_waits_for_the_repair(scope: Scope) -> None:
    held = Held(reason="consent", scope=scope)

    move = decide(held, 99, POLICY, half)

    assert move == Transition(status=Status.DEFERRED, reason="held", sent_nothing=True, hold=held)


def test_a_mail_that_alone_is_at_fault_does_not_hold_its_mailbox_again() -> None:
    held = Held(reason="access_denied", scope=Scope.LANE)

    assert decide(held, 0, POLICY, half, suspect=True) == decide(Deferred(reason="access_denied"), 0, POLICY, half)
    assert decide(held, POLICY.max_attempts, POLICY, half, suspect=True).status is Status.DEAD


def test_a_fault_of_the_whole_app_is_not_taken_for_one_of_a_mail_that_was_at_fault_alone() -> None:
    held = Held(reason="token_rejected", scope=Scope.APP)

    assert decide(held, 0, POLICY, half, suspect=True).hold == held


def test_only_an_unknown_outcome_leaves_doubt_and_only_deferred_spends_an_attempt() -> None:
    outcomes: list[Outcome] = [
        Accepted(),
        Throttled(),
        Held(reason="x", scope=Scope.LANE),
        Refused(reason="x"),
        Unknown(reason="x"),
        Deferred(reason="x", free=True),
        Deferred(reason="x"),
    ]

    moves = [decide(outcome, 0, POLICY, half) for outcome in outcomes]

    assert [move.in_doubt for move in moves] == [False] * 4 + [True] + [False] * 2
    assert [move.spends_attempt for move in moves] == [False] * 6 + [True]


@pytest.mark.parametrize(
    ("attempts", "longest"), [(0, 5), (1, 10), (3, 40), (12, LONGEST_BACKOFF_S), (10**6, LONGEST_BACKOFF_S)]
)
def test_a_backoff_lies_anywhere_between_nothing_and_a_doubling_limit(attempts: int, longest: float) -> None:
    assert backoff(attempts, Policy(), lambda: 0.0) == 0
    assert backoff(attempts, Policy(), half) == longest / 2
    assert backoff(attempts, Policy(), lambda: 0.999) == pytest.approx(longest * 0.999)


def test_the_default_policy_goes_on_for_at_least_a_day_in_99_of_100_cases() -> None:
    chance = random.Random(7).random

    def span() -> float:
        policy, waited = Policy(), 0.0
        for attempts in range(policy.max_attempts):
            move = decide(Deferred(reason="busy"), attempts, policy, chance)
            if move.status is Status.DEAD:
                return waited
            waited += move.wait_s or 0.0
        raise AssertionError

    spans = sorted(span() for _ in range(2000))
    assert spans[20] >= DAY_S
    assert list(accumulate(spans))[-1] / 2000 < 4 * DAY_S


IN_DOUBT = Job(id="j", lane="l", app="a", token="t", mail=b"{}", attempts=0, in_doubt=True)
LOOKED_ENOUGH = IN_DOUBT._replace(look_ups=2)
LOOK_UPS = Policy(max_attempts=5, look_ups_s=(10, 60, 300))
AGAIN = Transition(status=Status.DEFERRED, reason="unknown", look_ups=3, resend=True)
FOR_A_PERSON = Transition(status=Status.DEAD, reason="unknown", look_ups=3)


def look_again(wait_s: float, look_ups: int) -> Transition:
    return Transition(status=Status.DEFERRED, reason="unknown", wait_s=wait_s, look_ups=look_ups)


@pytest.mark.parametrize(
    ("finding", "job", "on_unknown", "expected"),
    [
        (Found(), IN_DOUBT, OnUnknown.HOLD, Transition(status=Status.ACCEPTED, look_ups=1)),
        (NotFound(), IN_DOUBT, OnUnknown.RESEND, look_again(50, 1)),
        (NotFound(), IN_DOUBT._replace(look_ups=1), OnUnknown.RESEND, look_again(240, 2)),
        (NotFound(), LOOKED_ENOUGH, OnUnknown.RESEND, AGAIN),
        (NotFound(), LOOKED_ENOUGH, OnUnknown.HOLD, FOR_A_PERSON),
        (NotFound(), LOOKED_ENOUGH._replace(resends=4), OnUnknown.RESEND, AGAIN),
        (NotFound(), LOOKED_ENOUGH._replace(resends=5), OnUnknown.RESEND, FOR_A_PERSON),
        (NotFound(proves_nothing=True), LOOKED_ENOUGH, OnUnknown.RESEND, AGAIN),
        (NotFound(proves_nothing=True), LOOKED_ENOUGH._replace(resends=1), OnUnknown.RESEND, FOR_A_PERSON),
        (NotPermitted(), IN_DOUBT, OnUnknown.RESEND, replace(AGAIN, look_ups=1)),
        (NotPermitted(), IN_DOUBT, OnUnknown.HOLD, replace(FOR_A_PERSON, look_ups=1)),
        (StillDraft(), IN_DOUBT, OnUnknown.RESEND, look_again(50, 1)),
        (StillDraft(), LOOKED_ENOUGH._replace(resends=4), OnUnknown.HOLD, AGAIN),
        (StillDraft(), LOOKED_ENOUGH._replace(resends=5), OnUnknown.HOLD, FOR_A_PERSON),
        (NotFound(draft_gone=True), IN_DOUBT, OnUnknown.RESEND, look_again(50, 1)),
        (NotFound(draft_gone=True), LOOKED_ENOUGH, OnUnknown.RESEND, FOR_A_PERSON),
        (Deferred(reason="look_up_failed", free=True), LOOKED_ENOUGH, OnUnknown.RESEND, look_again(60, 2)),
    ],
)
def test_each_result_of_a_look_up_is_followed_by_one_transition(
    finding: LookupResult, job: Job, on_unknown: OnUnknown, expected: Transition
) -> None:
    assert after_lookup(finding, job, LOOK_UPS, on_unknown, half) == expected


@pytest.mark.parametrize(
    "finding",
    [
        Throttled(wait_s=7),
        Held(reason="secret", scope=Scope.APP),
        Deferred(reason="no_connection", scope=Scope.APP, free=True),
    ],
)
def test_what_stops_all_requests_stops_a_look_up_and_says_nothing_about_the_mail(finding: LookupResult) -> None:
    move = after_lookup(finding, LOOKED_ENOUGH, LOOK_UPS, OnUnknown.RESEND, half)

    assert (move.status, move.reason, move.wait_s, move.look_ups, move.resend) == (
        Status.DEFERRED,
        "unknown",
        None,
        2,
        False,
    )
    assert move.pause or move.hold


def test_without_look_ups_a_mail_in_doubt_still_waits_for_a_moment() -> None:
    assert decide(Unknown(reason="timeout"), 0, Policy(look_ups_s=()), half).wait_s == 10
    assert after_lookup(NotFound(), IN_DOUBT, Policy(look_ups_s=()), OnUnknown.RESEND, half).resend


def test_a_draft_that_could_not_be_removed_stays_for_later() -> None:
    assert after_clean_up(CleanedUp(), POLICY, half) == Transition(status=None, cleaned_up=True)
    assert after_clean_up(Deferred(reason="busy"), POLICY, half) == Transition(status=None)
    throttle = after_clean_up(Throttled(wait_s=3), POLICY, half)
    assert throttle.pause is not None
    assert not throttle.cleaned_up
