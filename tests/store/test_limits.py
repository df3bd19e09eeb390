"""No lane sends more than its limits allow: slots, rates, recipients of a day, uploads."""

from dataclasses import replace

import pytest

from postroom.jobs.outcome import Answer, Refused

from .room import ACCEPTED, FREE, NO_ANSWER, OTHER, SENDER, Room, mail


def test_no_more_jobs_are_claimed_than_the_lane_has_slots(room: Room) -> None:
    room.quick(SENDER)
    for _ in range(6):
        room.take()

    assert [room.claim() is not None for _ in range(6)] == [True] * 4 + [False] * 2
    room.take(mail(OTHER))
    assert room.claim(OTHER) is not None


def test_the_rate_holds_over_any_window_and_the_lane_wakes_when_it_is_free(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((3, 10), (4, 60)))})
    for _ in range(5):
        room.take()
    for _ in range(3):
        room.send()
        room.jump(1)

    assert room.claim() is None
    assert room.wakes_in() == 8  # 10 s and a margin of 1 s after the first
    room.jump(8)
    room.send()
    assert room.claim() is None
    assert room.wakes_in() == 50


def test_a_claim_that_is_not_marked_yet_holds_its_share_of_the_rate(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((1, 10),))})
    room.take()
    room.take()
    held = room.held()

    assert room.claim() is None
    assert room.mark(held) == "marked"
    assert room.mark(held) == "wait"  # a second request of the same attempt spends the rate too


def test_a_slow_request_counts_until_the_moment_it_may_have_reached_graph(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((1, 60),))})
    room.take()
    room.take()
    job = room.sending()
    room.jump(25)
    room.settle(job, ACCEPTED)

    assert room.wakes_in() == 61


def test_a_job_too_large_for_the_rest_of_the_budget_keeps_the_head_of_the_line(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=10)})
    room.take(mail(to=6))
    room.send()
    large, small = room.take(mail(to=5)), room.take()

    assert room.claim() is None
    assert room.wakes_in() == pytest.approx(86_400, abs=61)
    room.jump(room.wakes_in())
    assert [room.send(), room.send()] == [large, small]


def test_recipients_of_a_claim_that_is_not_marked_yet_are_reserved(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=10)})
    room.take(mail(to=6))
    room.take(mail(to=5))
    room.held()

    assert room.claim() is None


def test_recipients_stay_spent_for_a_whole_day(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=1)})
    room.take()
    room.send()
    room.take()
    room.jump(86_399)

    assert room.claim() is None


def test_a_high_job_that_fits_is_not_kept_back_by_one_that_does_not(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=10)})
    room.take(mail(to=6))
    room.send()
    room.take(mail(to=5))
    high = room.take(mail(priority="high", scheduled_at=room.at(30)))

    assert room.wakes_in() == 30
    room.tick(30)
    assert room.held().id == high


def test_when_the_large_job_at_the_head_of_the_line_is_cancelled_the_rest_go(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=10)})
    room.take(mail(to=6))
    room.send()
    large, small = room.take(mail(to=5)), room.take()
    room.rounds()

    room.ledger.cancel(large, now=room.now)

    assert room.rounds() == [SENDER]
    assert room.held().id == small


def test_recipients_of_a_mail_that_was_not_sent_are_given_back(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=10)})
    room.take(mail(to=10))
    room.send(Refused(reason="bad", answer=Answer(http_status=400)))
    second = room.take(mail(to=10))

    assert room.send(NO_ANSWER) == second
    room.take()
    assert room.claim() is None  # what may have been sent stays spent


def test_settings_published_anew_wake_lanes_that_waited_by_the_old_ones(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=1)})
    room.take()
    room.send()
    job_id = room.take()
    room.rounds()

    room.publish(lanes={SENDER: replace(FREE, daily_recipients=2)})
    room.tick()

    assert room.rounds() == [SENDER]
    assert room.held().id == job_id


def test_a_job_larger_than_a_budget_that_was_lowered_is_dead_and_the_rest_go_on(room: Room) -> None:
    large, small = room.take(mail(to=5)), room.take()
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=4)})

    assert room.held().id == small
    assert (room.read(large).status, room.read(large).reason) == ("dead", "too_many_recipients")


def test_at_most_150_mb_are_uploaded_in_any_5_minutes(room: Room) -> None:
    first = [room.held() for _ in range(3) if room.take()]
    assert [room.mark(job, 50_000_000) for job in first] == ["marked"] * 3
    for job in first:
        room.settle(job, ACCEPTED)
        room.jump(60)
    room.take()
    job = room.held()

    wait_s = room.ledger.mark(job, "r", 1000, 60, now=room.now)

    assert wait_s is not None
    assert 120 < wait_s <= 130, "until the first of them is 5 minutes old"
    room.jump(wait_s)
    assert room.mark(job) == "marked"


def test_what_is_uploaded_into_a_draft_counts_too_and_its_fields_are_kept_either_way(room: Room) -> None:
    room.take()
    job = room.held()
    assert room.ledger.note(job, {"drafting": "1"}, 149_999_000, 60, now=room.now) == 0

    wait_s = room.ledger.note(job, {"draft": "d-1"}, 1001, 60, now=room.now)

    assert wait_s
    assert room.record(job.id)[b"draft"] == b"d-1"
    assert room.ledger.note(job, {}, 1000, 60, now=room.now) == 0


def test_a_redis_that_has_lost_the_settings_gives_no_mail_by_other_limits(room: Room) -> None:
    room.redis.flushall()
    room.take()
    room.take()
    assert room.claim() is None
    assert not room.ledger.tick("worker", 8, 60, now=room.now).has_settings

    room.publish(lanes={SENDER: replace(FREE, rates=((1, 60.0),))})

    assert room.ledger.tick("worker", 8, 60, now=room.now).has_settings
    room.send()
    assert room.claim() is None, "the rate is spent"
