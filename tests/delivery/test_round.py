"""What a round does around its attempts."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from postroom.delivery.round import LAST_TRIES_S, RoundContext, work
from postroom.errors import Unavailable
from postroom.jobs.job import Job, Status
from postroom.jobs.outcome import Answer, Deferred, Unknown
from postroom.jobs.retry import Policy
from postroom.mail.model import Mail

from .world import ACCEPTED, Diary, FakeLedger, World, a_job


def context(
    ledger: FakeLedger, world: World, diary: Diary, stopping: Callable[[], bool] = lambda: False
) -> RoundContext:
    return RoundContext(
        ledger=ledger,
        delivery=world.context(),
        policy=Policy(),
        chance=lambda: 0.5,
        emit=diary.emit,
        stopping=stopping,
        pause=diary.pauses.append,
    )


def jobs(count: int) -> list[Job]:
    return [a_job()._replace(id=f"job-{n}") for n in range(count)]


@pytest.fixture
def world() -> World:
    return World(answers=[ACCEPTED] * 9, marks=[0.0] * 9)


def test_a_round_goes_on_until_the_lane_has_no_job_for_it(world: World) -> None:
    ledger, diary = FakeLedger(jobs(3)), Diary()

    work("lane", context(ledger, world, diary))

    assert ledger.settled == [(f"job-{n}", Status.ACCEPTED, ACCEPTED) for n in range(3)]
    assert diary.events == ["mail.accepted"] * 3


def test_a_round_stops_after_the_mail_in_hand(world: World) -> None:
    ledger = FakeLedger(jobs(3))

    work("lane", context(ledger, world, Diary(), stopping=lambda: bool(world.diary)))

    assert [job_id for job_id, _, _ in ledger.settled] == ["job-0"]


def test_a_round_that_starts_while_the_worker_stops_claims_nothing(world: World) -> None:
    ledger = FakeLedger(jobs(1))

    work("lane", context(ledger, world, Diary(), stopping=lambda: True))

    assert len(ledger.jobs) == 1


def test_a_round_tells_the_ledger_when_its_slice_is_over(world: World) -> None:
    ledger = FakeLedger(jobs(2))
    world.mark_takes = 1.5

    work("lane", context(ledger, world, Diary()))

    assert ledger.claimed_next == [False]


def test_another_lanes_round_has_a_slice_of_its_own(world: World) -> None:
    first, second = jobs(2)
    ledger = FakeLedger([first, second._replace(lane="other")])
    world.mark_takes = 0.6

    work(first.lane, context(ledger, world, Diary()))

    assert ledger.claimed_next == [True, True]


def test_after_some_seconds_a_slot_goes_back_to_celery(world: World) -> None:
    ledger = FakeLedger([job._replace(lane=f"lane-{n}") for n, job in enumerate(jobs(12))])
    world.answers, world.marks = [ACCEPTED] * 12, [0.0] * 12
    world.mark_takes = 0.9

    work("lane-0", context(ledger, world, Diary()))

    assert ledger.may_switch_lane == [True] * 11 + [False]


def test_free_slots_are_invited_where_rounds_wait(world: World) -> None:
    first, second, third = jobs(3)
    ledger = FakeLedger([first._replace(others_wait=True), second, third])
    world.answers, world.marks = [ACCEPTED] * 3, [0.0] * 3
    invited: list[Callable[[], None]] = []

    work("lane", replace(context(ledger, world, Diary()), invite=invited.append))
    assert len(invited) == 1
    invited[0]()

    assert ledger.lanes == ["lane", ""]


def test_a_first_claim_whose_answer_may_be_lost_is_asked_for_again_by_the_same_claimant(world: World) -> None:
    ledger, diary = FakeLedger(jobs(1), claims_away=3), Diary()

    work("lane", context(ledger, world, diary))

    assert ledger.settled == [("job-0", Status.ACCEPTED, ACCEPTED)]
    assert (len(ledger.claimants), len(set(map(str, ledger.claimants)))) == (4, 1)
    assert diary.pauses == [0.05, 0.1, 0.2]


def test_a_worker_that_stops_does_not_wait_for_the_answer_to_a_first_claim(world: World) -> None:
    ledger, diary = FakeLedger(jobs(1), claims_away=9), Diary()
    work("lane", context(ledger, world, diary, stopping=lambda: len(ledger.claimants) > 1))

    assert (len(ledger.jobs), len(ledger.claimants), diary.events) == (1, 2, ["round.failed"])


def test_a_202_is_recorded_however_long_redis_is_away(world: World) -> None:
    ledger, diary = FakeLedger(jobs(1), away=7), Diary()

    work("lane", context(ledger, world, diary))

    assert ledger.settled == [("job-0", Status.ACCEPTED, ACCEPTED)]
    assert diary.pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_worker_that_stops_while_redis_is_away_gives_up_in_the_end_and_logs_what_it_could_not_record(
    world: World,
) -> None:
    ledger, diary = FakeLedger(jobs(2), away=999), Diary()

    def pause(seconds: float) -> None:
        diary.pauses.append(seconds)
        world.clock += seconds

    work("lane", replace(context(ledger, world, diary, stopping=lambda: len(diary.pauses) >= 3), pause=pause))

    assert LAST_TRIES_S <= sum(diary.pauses[3:]) <= LAST_TRIES_S + 1
    assert (ledger.settled, diary.events) == ([], ["mail.unrecorded", "round.failed"])


def test_a_lost_claim_ends_the_round_and_settles_nothing(world: World) -> None:
    ledger, diary = FakeLedger(jobs(2)), Diary()
    world.marks = [None]

    work("lane", context(ledger, world, diary))

    assert (ledger.settled, diary.events) == ([], ["claim.lost"])


def test_an_error_of_ours_before_the_mark_costs_one_attempt_and_not_the_next_mail(world: World) -> None:
    broken = a_job(Mail(sender="a@contoso.com", to=["b@contoso.com"], template="bug"))._replace(id="broken")
    ledger, diary = FakeLedger([broken, *jobs(1)]), Diary()

    work("lane", context(ledger, world, diary))

    assert ledger.settled[0] == (
        "broken",
        Status.DEFERRED,
        Deferred(reason="internal_error", answer=Answer(detail="RuntimeError")),
    )
    assert ledger.settled[1][1] is Status.ACCEPTED
    assert diary.events[0] == "round.failed"


def test_redis_away_at_the_mark_costs_the_mail_nothing(world: World) -> None:
    ledger = FakeLedger(jobs(1))
    delivery = world.context()

    def away(_: Job, __: str, ___: int) -> float | None:
        raise Unavailable("away")

    work("lane", replace(context(ledger, world, Diary()), delivery=replace(delivery, mark=away)))

    assert ledger.settled[0][2] == Deferred(reason="redis_unavailable", free=True)


def test_an_unknown_outcome_waits_in_doubt(world: World) -> None:
    ledger, diary = FakeLedger(jobs(1)), Diary()
    world.answers = [Unknown(reason="no_answer")]

    work("lane", context(ledger, world, diary))

    assert ledger.settled[0][1] is Status.DEFERRED
    assert diary.events == ["mail.deferred"]
