"""What each move of a job promises, on a real server, with the time passed in."""

import json
import os
import signal
import socket
from dataclasses import replace
from typing import Any

import celery
import pytest
import redis
from celery.result import AsyncResult

from postroom.errors import (
    InvalidMail,
    KeyConflict,
    MailDead,
    MailExpired,
    PostroomError,
    TooLate,
    Unavailable,
    UnknownJob,
)
from postroom.jobs.job import Claimant, Job, Receipt, Status, recipient_token
from postroom.jobs.job_filter import JobFilter
from postroom.jobs.outcome import Answer, Deferred, Refused, Scope, Throttled
from postroom.jobs.retry import Policy, decide
from postroom.mail.model import Attachment
from postroom.store import functions
from postroom.store.attachments import SMALL
from postroom.store.celery_urls import celery_urls
from postroom.store.connection import connect
from postroom.store.functions import LIBRARY, PREFIX
from postroom.store.intake import NOT_DEAD, NOTHING_STAGED
from postroom.store.intake_codec import encode_mail
from postroom.store.ledger import Ledger

from .room import (
    ACCEPTED,
    BUSY,
    FREE,
    NO_ANSWER,
    NO_TOKEN,
    NOT_ALLOWED,
    OTHER,
    SENDER,
    UNREACHABLE,
    Room,
    mail,
    throttled,
)

# Taking in.


def test_taking_in_again_under_the_same_id_is_the_same_job(room: Room) -> None:
    first = room.ledger.take_in("id", mail(), None, "batch", now=room.now)
    keys = sorted(room.redis.scan_iter())
    again = room.ledger.take_in("id", mail(), None, "batch", now=room.now + 5)

    assert first == again == Receipt(id="id", known=False)
    assert sorted(room.redis.scan_iter()) == keys
    assert len(room.rounds()) == 1


def test_taking_in_again_what_was_stored_apart_is_the_same_job_too(room: Room) -> None:
    large = mail(attachments=[Attachment("a.pdf", b"x" * (SMALL + 1))])
    first = room.ledger.take_in("id", large, "key", None, now=room.now)

    assert first == room.ledger.take_in("id", large, "key", None, now=room.now + 5) == Receipt(id="id", known=False)
    assert room.ledger.take_in("other", large, "key", None, now=room.now + 9) == Receipt(id="id", known=True)


def test_the_same_key_is_the_same_job_however_it_ended(room: Room) -> None:
    first = room.take(key="welcome/ann")
    room.send(Refused(reason="bad"))

    assert room.receipt(key="welcome/ann") == Receipt(id=first, known=True)


def test_a_key_with_another_mail_is_a_conflict_that_names_the_first_job(room: Room) -> None:
    first = room.take(key="k")

    with pytest.raises(KeyConflict) as conflict:
        room.take(mail(subject="another"), key="k")

    assert conflict.value.job_id == first


def test_a_key_is_free_again_when_its_record_was_swept(room: Room) -> None:
    first = room.take(key="k")
    room.send()
    room.jump(3601)
    room.tick()

    with pytest.raises(UnknownJob):
        room.read(first)
    assert room.receipt(mail(subject="another"), key="k").known is False


def test_a_mail_from_an_alias_waits_in_the_mailbox_s_lane(room: Room) -> None:
    job_id = room.take(mail("Alias@contoso.com"))

    assert room.rounds() == [SENDER]
    assert room.held().id == job_id
    assert room.read(job_id).sender == "alias@contoso.com"


def test_more_recipients_than_a_day_s_budget_are_refused_without_a_trace(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=3)})
    before = sorted(room.redis.scan_iter())

    with pytest.raises(InvalidMail, match=r"more recipients .* \(3\)"):
        room.take(mail(to=4), key="k")

    assert sorted(room.redis.scan_iter()) == before


def test_a_mail_that_cannot_exist_is_a_dead_letter_with_the_reason(room: Room) -> None:
    room.ledger.take_in_dead("id", "a@b.de", '{"to": 1}', "invalid", "to: no address", now=room.now)

    found = room.read("id")
    assert (found.status, found.reason, found.attempts[0].detail) == ("dead", "invalid", "to: no address")
    assert found.attempts[0].at == found.created_at
    assert room.rounds() == []


def test_a_job_for_500_recipients_is_found_by_each_and_swept_from_each(room: Room) -> None:
    job_id = room.take(mail(to=500))

    assert room.ledger.records.newest(JobFilter(to="ann499@contoso.com"), 5)[0].id == job_id
    room.send()
    room.jump(3601)
    room.tick()
    assert room.redis.keys(PREFIX + "to:*") == []


# Which job goes next.


def test_high_goes_before_normal_before_low_and_the_older_first(room: Room) -> None:
    names = [room.take(mail(priority=p)) for p in ("low", "normal", "high", "normal", "high")]

    assert [room.send() for _ in names] == [names[i] for i in (2, 4, 1, 3, 0)]


def test_low_still_gets_one_claim_in_ten_even_while_high_never_ends(room: Room) -> None:
    low = {room.take(mail(priority="low")) for _ in range(3)}
    for _ in range(30):
        room.take(mail(priority="high"))

    sent = [room.send() for _ in range(30)]

    assert [len(low & set(sent[start : start + 10])) for start in (0, 10, 20)] == [1, 1, 1]


def test_a_high_job_asks_on_the_queue_that_is_read_first_even_when_the_other_is_long(room: Room) -> None:
    for i in range(40):
        room.take(mail(f"m{i}@contoso.com"))
    assert room.redis.llen("postroom") == 17  # twice the hands, and one

    room.take(mail("m39@contoso.com", priority="high"))

    assert room.redis.llen("postroom.high") == 1


def test_a_scheduled_job_wakes_its_lane_when_it_is_due(room: Room) -> None:
    job_id = room.take(mail(scheduled_at=room.at(20)))
    room.tick(19)
    assert (room.claim(), room.rounds()) == (None, [])

    room.tick(1)

    assert room.rounds() == [SENDER]
    assert room.held().id == job_id


def test_a_job_that_expires_while_it_waits_ends_as_expired(room: Room) -> None:
    job_id = room.take(mail(expires_at=room.at(5)))
    room.tick(5)

    assert room.read(job_id).status == "expired"


def test_an_expired_job_is_not_claimed_even_before_a_tick_saw_it(room: Room) -> None:
    late, good = room.take(mail(expires_at=room.at(5))), room.take()
    room.jump(6)

    assert room.held().id == good
    assert room.read(late).status == "expired"


# Limits.


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


def test_a_cancelled_head_that_kept_the_line_lets_the_rest_go(room: Room) -> None:
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


def test_rules_published_anew_wake_lanes_that_waited_by_the_old_ones(room: Room) -> None:
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


# Pauses and trouble.


def test_a_retry_after_pauses_the_whole_lane_and_costs_no_attempt(room: Room) -> None:
    job_id = room.take()
    room.take()
    room.take(mail(OTHER))
    room.send(throttled(30))

    assert room.claim() is None
    assert room.claim(OTHER) is not None
    assert room.read(job_id).next_at == room.at(30)
    room.jump(30)
    assert room.held().attempts == 0


def test_a_pause_is_only_lengthened_and_no_answer_under_way_ends_it(room: Room) -> None:
    for _ in range(4):
        room.take()
    first, second, third, fourth = (room.sending() for _ in range(4))
    room.settle(first, throttled(30))
    room.settle(second, throttled(5))
    room.settle(third, ACCEPTED)
    room.jump(10)
    room.settle(fourth, throttled(25))

    assert room.wakes_in() == 25


def test_throttles_in_a_row_double_but_not_by_the_four_answers_of_one_event(room: Room) -> None:
    for _ in range(4):
        room.take()
    jobs = [room.sending() for _ in range(4)]
    for job in jobs:
        room.settle(job, throttled(10))
        room.jump(4)  # the last two answers come when the pause is over already
    assert room.wakes_in() <= 10
    for wait in (20, 40, 80):
        room.jump(max(room.wakes_in(), 0))
        room.send(throttled(10))
        assert room.wakes_in() == wait


def test_while_a_lane_is_in_trouble_one_job_at_a_time_goes_on(room: Room) -> None:
    for _ in range(5):
        room.take()
    room.send(throttled(10))
    room.jump(10)

    probe = room.sending()
    assert room.claim() is None
    room.settle(probe, ACCEPTED)
    assert [room.claim() is not None for _ in range(5)] == [True] * 4 + [False]


def test_while_an_app_is_in_trouble_one_job_of_all_its_lanes_goes_on(room: Room) -> None:
    room.take()
    for lane in (SENDER, OTHER):
        room.take(mail(lane))
    room.send(UNREACHABLE)
    assert room.claim(OTHER) is None
    room.jump(2)
    room.rounds()

    probe = room.sending()
    room.jump(59)  # longer than its claim's own lease, had the mark not renewed it
    assert room.claim(OTHER) is None
    room.settle(probe, ACCEPTED)
    room.tick()
    assert OTHER in room.rounds()
    assert room.claim(OTHER) is not None


def test_trouble_with_tokens_is_over_as_soon_as_one_is_there(room: Room) -> None:
    room.take()
    room.take(mail(OTHER))
    room.settle(room.held(), UNREACHABLE)
    room.jump(5)

    room.sending()

    assert room.claim(OTHER) is not None


def test_no_connection_pauses_longer_each_time_up_to_a_minute_and_costs_nothing(room: Room) -> None:
    job_id = room.take()
    waits = []
    for _ in range(8):
        room.send(UNREACHABLE)
        waits.append(room.wakes_in())
        room.jump(waits[-1])

    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]
    assert room.held().attempts == 0
    assert room.read(job_id).status == "deferred"


def test_three_failures_in_a_row_pause_the_lane_and_a_202_ends_the_row(room: Room) -> None:
    for outcome in (BUSY, NO_ANSWER, ACCEPTED, BUSY, NO_ANSWER):
        room.take()
        room.send(outcome)
    job_id = room.take()
    assert room.wakes_in() > 2  # a round is asked for, so the lane need not wake

    room.send(NO_ANSWER)
    room.take()
    assert room.claim() is None
    assert room.wakes_in() == 2
    room.jump(2)
    assert room.held().id != job_id
    assert room.claim() is None


def test_failures_of_three_lanes_pause_their_app_and_the_next_probe_is_another_lane_s(room: Room) -> None:
    lanes = [f"m{i}@contoso.com" for i in range(3)]
    for lane in lanes:
        room.take(mail(lane))
        room.take(mail(lane))
        room.send(BUSY, lane)
    room.take()
    assert room.claim() is None

    room.jump(2)

    assert room.claim(lanes[2]) is None
    room.send(ACCEPTED)
    assert room.claim(lanes[0]) is not None


def test_one_broken_mailbox_pauses_nobody_else(room: Room) -> None:
    room.quick(OTHER)
    for _ in range(6):
        room.take()
        room.jump(300)
        room.send(NO_ANSWER)
        room.take(mail(OTHER))
        room.send(lane=OTHER)


def test_a_pause_that_an_operator_ends_early_wakes_every_lane_of_the_app(room: Room) -> None:
    room.ledger.pause("app", "main", 3600, "maintenance", now=room.now)
    for i in range(150):
        room.take(mail(f"m{i}@contoso.com"))
    assert room.rounds() == []

    room.ledger.pause("app", "main", 0, "", now=room.now)
    room.tick()

    assert len(room.rounds()) > 16
    assert room.claim("m149@contoso.com") is not None


def test_a_lane_s_pause_that_an_operator_ends_early_asks_for_a_round_at_once(room: Room) -> None:
    room.ledger.pause("lane", SENDER, 3600, "maintenance", now=room.now)
    room.take()

    assert room.ledger.pause("lane", SENDER, 0, "", now=room.now) <= room.at(0)
    assert room.rounds() == [SENDER]


def test_an_operator_s_pause_is_no_trouble_and_all_slots_go_on_after_it(room: Room) -> None:
    room.ledger.pause("lane", SENDER, 10, "maintenance", now=room.now)
    for _ in range(4):
        room.take()
    assert room.claim() is None

    room.jump(10)

    assert all(room.claim() for _ in range(4))


def test_a_job_claimed_before_a_pause_began_is_not_sent_into_it(room: Room) -> None:
    room.take()
    room.take()
    sending, held = room.sending(), room.held()
    room.settle(sending, throttled(30))

    assert room.mark(held) == "wait"
    room.settle(held, Throttled(wait_s=1.0))
    assert room.read(held.id).next_at == room.at(30)
    room.jump(30)
    assert room.mark(room.held()) == "marked"


def test_a_second_request_is_not_sent_into_a_pause_either(room: Room) -> None:
    room.take()
    room.take()
    rejected, other = room.sending(), room.sending()
    room.settle(other, throttled(30))

    assert room.mark(rejected) == "wait"


def test_a_503_that_says_when_pauses_the_whole_lane(room: Room) -> None:
    room.take()
    room.take()
    busy = Deferred(reason="server_busy", scope=Scope.LANE, wait_s=20, answer=Answer(http_status=503))
    room.send(busy)

    assert room.claim() is None
    assert room.wakes_in() == 20


def test_waiting_for_a_second_request_s_rate_is_no_trouble(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((4, 10),))})
    for _ in range(6):
        room.take()
    jobs = [room.sending() for _ in range(4)]
    assert room.mark(jobs[0]) == "wait"
    room.settle(jobs[0], Throttled(wait_s=1.0))
    room.jump(11)

    assert room.claim() is not None


# Lost workers.


def test_a_claim_lost_before_the_mark_is_put_back_and_costs_no_attempt(room: Room) -> None:
    room.take()
    lost = room.held()
    room.tick(62)

    found = room.read(lost.id)
    assert (found.status, found.reason) == ("deferred", "backoff")
    assert room.mark(lost) == "void"
    room.tick(2)
    assert room.held().attempts == 0


def test_a_round_that_lost_its_claim_to_another_marks_and_settles_nothing(room: Room) -> None:
    room.take()
    lost = room.held()
    room.tick(64)
    other = room.held()

    assert room.mark(lost) == "void"
    assert not room.settle(lost, BUSY)
    assert room.mark(other) == "marked"


def test_a_claim_lost_after_the_mark_is_in_doubt(room: Room) -> None:
    room.take()
    lost = room.sending()
    room.tick(62)

    found = room.read(lost.id)
    assert (found.status, found.reason) == ("deferred", "unknown")
    assert (found.attempts[-1].outcome, found.attempts[-1].reason) == ("unknown", "worker_lost")
    room.tick(10)
    assert room.held().in_doubt


def test_a_lease_is_taken_back_only_a_second_after_a_tick_saw_it_end(room: Room) -> None:
    room.take()
    lost = room.held()
    room.tick(59)
    room.jump(20)
    room.tick()
    assert room.read(lost.id).status == "queued"
    room.jump(0.9)
    room.tick()
    assert room.read(lost.id).status == "queued"
    room.jump(0.2)
    room.tick()
    assert room.read(lost.id).status == "deferred"


def test_a_forward_jump_of_the_clock_takes_no_claim_from_anybody(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, parallel=150)})
    room.quick(SENDER)
    for _ in range(150):
        room.take()
    jobs = [room.held() for _ in range(150)]
    room.tick()

    room.jump(7200)
    room.tick(30)

    assert all(room.mark(job) == "marked" for job in jobs)


def test_five_lost_claims_make_a_job_dead_as_poison(room: Room) -> None:
    room.take()
    for _ in range(5):
        lost = room.held()
        room.tick(62 + 32)

    found = room.read(lost.id)
    assert (found.status, found.reason, found.attempts) == ("dead", "poison", [])


def test_a_late_202_is_believed_and_the_mail_is_not_sent_again(room: Room) -> None:
    room.take()
    late = room.sending()
    room.tick(80)
    other = room.held()

    assert room.settle(late, ACCEPTED)

    assert room.read(late.id).status == "accepted"
    assert room.mark(other) == "void"
    assert room.settle(late, ACCEPTED)


def test_a_late_202_is_believed_even_while_the_mail_is_being_sent_again(room: Room) -> None:
    job_id = room.take()
    late = room.sending()
    room.tick(80)
    again = room.sending()

    assert room.settle(late, ACCEPTED)
    assert room.read(job_id).status == "sending"
    assert room.settle(again, BUSY)

    found = room.read(job_id)
    assert (found.status, found.http_status, found.request_id) == ("accepted", 202, "r-1")


@pytest.mark.parametrize("end", ["cancelled", "dead"])
def test_a_late_202_corrects_the_end_of_a_mail_in_doubt(room: Room, end: str) -> None:
    job_id = room.take()
    late = room.sending()
    room.tick(80)
    if end == "cancelled":
        room.ledger.cancel(job_id, now=room.now)
    else:
        room.settle(room.held(), Refused(reason="unknown"))
    assert room.read(job_id).status == end

    assert room.settle(late, ACCEPTED)
    assert room.read(job_id).status == "accepted"


def test_any_other_late_answer_changes_nothing(room: Room) -> None:
    room.take()
    late = room.sending()
    room.tick(80)
    before = room.record(late.id)

    assert not room.settle(late, BUSY)
    assert room.record(late.id) == before


def test_a_job_in_doubt_never_expires(room: Room) -> None:
    job_id = room.take(mail(expires_at=room.at(15)))
    room.send(NO_ANSWER)
    room.tick(20)

    assert room.read(job_id).status == "deferred"
    assert room.held().in_doubt


def test_a_repeated_settle_gives_the_next_job_again_though_others_wait_by_now(room: Room) -> None:
    room.take()
    room.take()
    job = room.sending()
    move = decide(ACCEPTED, 0, Policy(), lambda: 0.5)
    said = {"claimant": Claimant("next", 60), "slice_expired": True, "now": room.now}
    room.rounds()
    first = room.ledger.settle(job, move, ACCEPTED, 1, **said)  # type: ignore[arg-type]
    room.take(mail(OTHER))

    assert first[1] is not None
    again = (True, first[1]._replace(others_wait=True))
    assert room.ledger.settle(job, move, ACCEPTED, 1, **said) == again  # type: ignore[arg-type]


def test_a_round_whose_slice_is_over_steps_aside_only_when_others_wait(room: Room) -> None:
    for _ in range(3):
        room.take()
    move = decide(ACCEPTED, 0, Policy(), lambda: 0.5)
    said = {"claimant": Claimant("next", 60), "slice_expired": True, "now": room.now}
    first = room.sending()
    room.rounds()
    following = room.ledger.settle(first, move, ACCEPTED, 1, **said)[1]  # type: ignore[arg-type]
    assert following is not None
    room.mark(following)
    room.take(mail(OTHER))

    assert room.ledger.settle(following, move, ACCEPTED, 1, **said) == (True, None)  # type: ignore[arg-type]


def test_a_mailbox_held_for_days_keeps_a_bounded_list_of_attempts(room: Room) -> None:
    room.publish(hold_patience_s=30 * 86400)
    job_id = room.take()
    for _ in range(130):
        room.send(NOT_ALLOWED)
        room.jump(1801)

    found = room.read(job_id)
    assert len(found.attempts) == 100
    assert found.attempts[-1].number == 130


def test_a_further_request_belongs_to_the_same_attempt(room: Room) -> None:
    job_id = room.take()
    job = room.sending()
    room.jump(50)
    room.mark(job)
    room.tick(50)
    room.settle(job, ACCEPTED)

    assert [(a.number, a.outcome) for a in room.read(job_id).attempts] == [(1, "accepted")]


# Cancelling.


def test_a_claimed_job_can_be_cancelled_until_it_is_marked(room: Room) -> None:
    job_id = room.take()
    held = room.held()
    room.ledger.cancel(job_id, now=room.now)

    assert room.mark(held) == "void"
    assert room.read(job_id).status == "cancelled"
    room.ledger.cancel(job_id, now=room.now)


def test_a_job_that_is_being_sent_or_has_ended_cannot_be_cancelled(room: Room) -> None:
    job_id = room.take()
    job = room.sending()
    with pytest.raises(TooLate, match="sending"):
        room.ledger.cancel(job_id, now=room.now)
    room.settle(job, ACCEPTED)
    with pytest.raises(TooLate, match="accepted"):
        room.ledger.cancel(job_id, now=room.now)
    with pytest.raises(UnknownJob):
        room.ledger.cancel("nobody", now=room.now)


# Rounds.


def test_a_round_is_asked_for_each_free_slot_and_no_more(room: Room) -> None:
    for _ in range(9):
        room.take()
    assert room.rounds() == [SENDER] * 2  # the first that starts asks for the others
    room.sending()
    assert room.rounds() == [SENDER] * 2  # so three are on their way

    room.tick(29)
    assert room.rounds() == []
    room.tick(2)
    assert room.rounds() == [SENDER] * 3  # whatever became of the others


def test_a_high_job_has_a_round_of_its_own_though_others_are_on_their_way(room: Room) -> None:
    for _ in range(3):
        room.take()

    room.take(mail(priority="high"))

    assert room.redis.llen("postroom.high") >= 1


def test_rounds_are_not_asked_for_while_the_queue_is_long_and_the_oldest_wait_comes_first(room: Room) -> None:
    room.quick("m20@contoso.com")
    for i in range(30):
        room.take(mail(f"m{i:02}@contoso.com"))
        room.jump(0.001)
    for _ in range(20):
        room.take(mail("m20@contoso.com"))
        room.jump(0.001)
    assert len(room.rounds()) == 17

    room.tick()

    waiting = [f"m{i}@contoso.com" for i in range(17, 30)]
    assert room.rounds() == waiting + ["m20@contoso.com"] * 3  # each in turn, not all to one


def test_lanes_with_slow_answers_hold_at_most_half_of_the_hands(room: Room) -> None:
    lanes = [f"slow{i}@contoso.com" for i in range(6)]
    room.slow(*lanes)
    for lane in lanes:
        room.take(mail(lane))
    jobs = [room.sending(lane) for lane in lanes[:4]]
    assert room.claim(lanes[4]) is None
    assert room.claim(lanes[5]) is None
    room.rounds()
    room.jump(3)

    room.settle(jobs[0], NO_ANSWER)

    assert room.rounds() == [lanes[4]]
    assert room.claim(lanes[4]) is not None


def test_lanes_not_known_yet_leave_a_quarter_of_the_hands_to_the_quick_ones(room: Room) -> None:
    lanes = [f"new{i}@contoso.com" for i in range(8)]
    for lane in lanes:
        room.take(mail(lane))
        room.take(mail(lane))
    for lane in lanes[:6]:
        room.sending(lane)

    assert [room.claim(lane) for lane in lanes[6:]] == [None, None]


def test_a_lane_not_known_yet_shows_its_pace_with_one_mail_first(room: Room) -> None:
    for _ in range(5):
        room.take(mail("new@contoso.com"))
    first = room.sending("new@contoso.com")
    assert room.claim("new@contoso.com") is None

    room.settle(first, ACCEPTED)

    assert [room.claim("new@contoso.com") is not None for _ in range(5)] == [True] * 4 + [False]


def test_new_lanes_find_a_hand_while_others_hang(room: Room) -> None:
    for i in range(6):
        room.take(mail(f"hanging{i}@contoso.com"))
        room.sending(f"hanging{i}@contoso.com")
        room.tick(3)  # long enough to be seen as slow

    room.redis.srem(PREFIX + "hands:slow", *room.redis.srandmember(PREFIX + "hands:slow", 2))  # half, as later on
    room.take(mail("new@contoso.com"))
    assert room.claim("new@contoso.com") is not None


def test_a_lane_known_to_be_quick_needs_no_such_hand_until_a_request_is_out_for_long(room: Room) -> None:
    room.take()
    room.send()
    room.slow(*(f"slow{i}@contoso.com" for i in range(4)))
    for i in range(4):
        room.take(mail(f"slow{i}@contoso.com"))
        room.sending(f"slow{i}@contoso.com")
    for _ in range(3):
        room.take()
    hanging = room.sending()
    assert hanging
    room.tick(3)

    assert room.claim() is None  # its own request hangs by now


def test_a_free_hand_goes_to_the_next_lane_when_the_first_has_nothing_left(room: Room) -> None:
    lanes = [f"slow{i}@contoso.com" for i in range(6)]
    room.slow(*lanes)
    for lane in lanes[:4]:
        room.take(mail(lane))
    jobs = [room.sending(lane) for lane in lanes[:4]]
    first, _ = room.take(mail(lanes[4])), room.take(mail(lanes[5]))
    room.redis.zrem(PREFIX + "lanes", lanes[4])
    room.ledger.pause("lane", lanes[4], 600, "maintenance", now=room.now)
    room.rounds()

    room.settle(jobs[0], NO_ANSWER)

    assert room.read(first).status == "queued"
    assert room.rounds() == [lanes[5]]


# Results.


def test_async_result_shows_each_state(room: Room, server: str) -> None:
    urls = celery_urls(server)
    app = celery.Celery(broker=urls.broker, backend=urls.backend)

    def seen(job_id: str) -> AsyncResult:
        return AsyncResult(job_id, app=app)

    job_id = room.take()
    assert seen(job_id).state == "PENDING"
    room.send(BUSY)
    assert (seen(job_id).state, str(seen(job_id).result)) == ("RETRY", "backoff, HTTP 503, busy")
    room.jump(3600)
    job = room.sending()
    assert seen(job_id).state == "PENDING"
    room.settle(job, ACCEPTED)
    assert seen(job_id).get(timeout=1) == {
        "id": job_id,
        "status": "accepted",
        "http_status": 202,
        "request_id": "r-1",
        "client_request_id": f"request-{room.made}",
        "attempts": 2,
        "accepted_at": room.at(0).isoformat(timespec="milliseconds"),
        "sender": SENDER,
    }
    assert seen(job_id).date_done == room.at(0)

    dead = room.take()
    room.send(Refused(reason="bad", answer=Answer(http_status=400, graph_code="ErrorInvalid")))
    with pytest.raises(MailDead, match=r"^bad, HTTP 400, ErrorInvalid$"):
        seen(dead).get(timeout=1)

    expired = room.take(mail(expires_at=room.at(1)))
    room.tick(2)
    with pytest.raises(MailExpired, match=r"^expired$"):
        seen(expired).get(timeout=1)

    cancelled = room.take()
    room.ledger.cancel(cancelled, now=room.now)
    assert seen(cancelled).state == "REVOKED"
    app.backend.client.connection_pool.disconnect()


def test_a_result_is_mirrored_under_the_task_id_of_a_known_key(room: Room) -> None:
    job_id = room.take()
    room.ledger.mirror(job_id, "task", now=room.now)
    assert not room.redis.exists("celery-task-meta-task")
    room.send()
    room.ledger.mirror(job_id, "another", now=room.now)

    for shown in (job_id, "task", "another"):
        meta = json.loads(room.redis.get(f"celery-task-meta-{shown}"))
        assert (meta["status"], meta["task_id"], meta["result"]["id"]) == ("SUCCESS", shown, job_id)
    room.jump(3601)
    room.tick()
    assert room.redis.keys("celery-task-meta-*") == []


def test_results_for_a_backend_elsewhere_are_lent_until_they_are_stored(room: Room) -> None:
    room.publish(results_here=False)
    job_id = room.take()
    room.send()
    room.ledger.mirror(job_id, "task", now=room.now)

    def tick() -> tuple[str, ...]:
        return tuple(room.ledger.results_due(now=room.now))

    assert (tick(), tick()) == ((job_id,), ())
    room.jump(30)
    assert tick() == (job_id,)
    due = room.ledger.result_due(job_id)
    assert due is not None
    assert (due.state, due.result["status"], set(due.ids)) == ("SUCCESS", "accepted", {job_id, "task"})
    assert room.ledger.result_stored(job_id, due.changed)
    room.jump(30)
    assert tick() == ()


def test_a_result_that_changed_while_it_was_stored_stays_due_even_within_one_millisecond(room: Room) -> None:
    room.publish(results_here=False)
    job_id = room.take()
    room.send(throttled(1))
    due = room.ledger.result_due(job_id)
    room.ledger.cancel(job_id, now=room.now)

    assert due is not None
    assert not room.ledger.result_stored(job_id, due.changed)
    due = room.ledger.result_due(job_id)
    assert due is not None
    assert due.state == "REVOKED"
    assert room.ledger.result_stored(job_id, due.changed)


def test_a_result_nobody_stored_is_dropped_with_its_record(room: Room) -> None:
    room.publish(results_here=False)
    job_id = room.take()
    room.send()
    room.jump(3601)
    room.tick()

    assert room.ledger.result_due(job_id) is None
    assert not room.redis.exists(PREFIX + "results")


def test_ten_thousand_mirrors_are_no_trouble_for_a_backend_elsewhere(room: Room) -> None:
    room.publish(results_here=False)
    job_id = room.take()
    room.redis.sadd(f"{PREFIX}mirrors:{job_id}", *range(10_000))

    due = room.ledger.result_due(job_id)

    assert due is not None
    assert len(due.ids) == 10_001


# Versions and accidents.


def test_a_record_of_a_newer_version_keeps_the_fields_this_one_does_not_know(room: Room) -> None:
    job_id = room.take()
    room.redis.hset(f"{PREFIX}job:{job_id}", mapping={"colour": "green", "nuance": ""})
    room.send(throttled(1))
    room.jump(1)
    room.send()

    assert room.read(job_id).status == "accepted"
    assert room.record(job_id)[b"colour"] == b"green"


def test_a_record_deleted_by_hand_does_not_stop_the_clock(room: Room) -> None:
    ids = [room.take(mail(expires_at=room.at(5))), room.take(), room.take(mail(scheduled_at=room.at(5)))]
    room.send()
    room.held()
    room.redis.delete(*(f"{PREFIX}job:{job_id}" for job_id in ids))
    good = room.take(mail(OTHER, scheduled_at=room.at(9)))
    room.tick(70)
    room.jump(3601)
    room.tick()

    assert room.held(OTHER).id == good


def test_a_recipient_is_found_without_an_address_in_any_key(room: Room) -> None:
    job_id = room.take(mail(to=2))

    assert [found.id for found in room.ledger.records.newest(JobFilter(to="ANN1@contoso.com"), 5)] == [job_id]
    assert not [key for key in room.redis.scan_iter() if b"ann" in key]
    assert len(recipient_token("ann@contoso.com")) == 16


@pytest.mark.parametrize("key", ["", "x" * 501, "half an emoji: \ud83d", "a\nb", 7, {"a": 1}])
def test_a_key_that_is_none_is_a_fault_of_the_mail(room: Room, key: Any) -> None:
    with pytest.raises(InvalidMail, match="key: a string"):
        room.take(key=key)


def test_a_job_is_found_by_each_thing_that_is_known_of_it(room: Room) -> None:
    wanted = room.take(mail(to=1, tags=("orders", "shop")), key="order/1", batch="november")
    room.jump(60)
    room.take(mail(OTHER, to=2, tags=("shops",)), key="order/2", batch="december")

    for filters in (
        {"key": "order/1"},
        {"batch": "november"},
        {"senders": [SENDER]},
        {"status": Status.QUEUED, "senders": [SENDER]},
        {"tag": "shop"},
        {"until": room.at(-30)},
        {"since": room.at(-90), "until": room.at(-30), "key": "order/1"},
        {"to": "ann0@contoso.com", "batch": "november"},
    ):
        assert [found.id for found in room.ledger.records.newest(JobFilter(**filters), 5)] == [wanted]
    assert room.ledger.records.newest(JobFilter(key="order/1", senders=[OTHER]), 5) == []
    assert room.ledger.records.newest(JobFilter(key="order/3"), 5) == []
    assert room.ledger.records.newest(JobFilter(tag="order"), 5) == [], "a part of a tag is none"
    assert room.ledger.records.read(wanted).tags == ("orders", "shop")


# Redis itself.


def test_scripts_that_a_restarted_server_does_not_know_are_loaded_again(room: Room) -> None:
    room.redis.function_flush()

    assert room.read(room.take()).status == "queued"


def test_a_worker_that_starts_removes_what_other_versions_loaded(room: Room) -> None:
    text, _ = functions.library(functions.CODE.replace(" FORMAT = 2,", " FORMAT = 1,"))
    room.redis.function_load(text)
    room.redis.function_load("#!lua name=somebody\nredis.register_function('somebody_s', function() return 1 end)")

    room.publish()

    left = {dict(zip(found[::2], found[1::2], strict=True))[b"library_name"] for found in room.redis.function_list()}
    assert left == {functions.LIBRARY.encode(), b"somebody"}


def test_a_full_redis_that_takes_no_library_still_runs_what_makes_room(room: Room) -> None:
    room.take()
    job = room.sending()
    try:
        room.redis.config_set("maxmemory", "1")
        room.redis.function_flush()

        assert room.settle(job, ACCEPTED)
        with pytest.raises(Unavailable, match="Redis is full"):
            room.take()
    finally:
        room.redis.config_set("maxmemory", "0")


def test_a_fault_in_a_script_is_told_from_a_redis_that_is_away(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = functions.CODE.replace(
        "  local lane, batch = ", "  do local missing = nothing.here end local lane, batch = "
    )
    assert broken != functions.CODE
    text, prefix = functions.library(broken)
    monkeypatch.setattr(functions, "_TEXT", text)
    monkeypatch.setattr(functions, "LIBRARY", prefix)
    job_id = room.take()

    with pytest.raises(PostroomError, match="a fault of Postroom itself") as caught:
        room.read(job_id)
    assert not isinstance(caught.value, Unavailable)


def test_a_closed_port_is_unavailable(free_port: int) -> None:
    ledger = Ledger(connect(f"redis://127.0.0.1:{free_port}/0", timeout_s=0.3, name="test"))

    with pytest.raises(Unavailable):
        ledger.take_in("id", mail(), None, None)
    with pytest.raises(Unavailable):
        ledger.records.read("id")


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_a_frozen_server_is_unavailable_in_bounded_time_and_what_came_through_is_one_job(own_server: str) -> None:
    client = connect(own_server, timeout_s=0.3, name="test")
    ledger = Ledger(client)
    ledger.take_in("first", mail(), None, None)
    pid = int(client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            ledger.take_in("id", mail(), "k", None)
    finally:
        os.kill(pid, signal.SIGCONT)

    assert ledger.take_in("id", mail(), "k", None) == Receipt(id="id", known=False)
    client.close()


def test_a_full_redis_takes_nothing_in_and_leaves_no_trace_but_what_it_holds_can_be_sent(own_server: str) -> None:
    with redis.Redis.from_url(own_server) as client:
        room = Room(client)
        room.publish(lanes={SENDER: replace(FREE, rates=((30, 60),))})
        first, _ = room.take(key="a"), room.take(key="b")
        before = {key: client.dump(key) for key in client.scan_iter()}
        client.config_set("maxmemory", "1mb")

        with pytest.raises(Unavailable, match="full"):
            room.take(mail(html="x" * 10_000), key="c", batch="news")
        assert {key: client.dump(key) for key in client.scan_iter()} == before

        assert room.send() == first
        room.tick(5)
        assert room.read(room.send(BUSY)).status == "deferred"
        client.config_set("maxmemory", "0")
        assert room.take(key="c")


def test_a_replica_that_takes_no_writes_is_unavailable(own_server: str, free_port: int) -> None:
    with redis.Redis.from_url(own_server) as client:
        client.replicaof("127.0.0.1", free_port)
        with pytest.raises(Unavailable):
            Ledger(client).take_in("id", mail(), None, None)
        client.replicaof("no", "one")


# Cost.


def calls(client: "redis.Redis[bytes]") -> int:
    return sum(stat["calls"] for name, stat in client.info("commandstats").items() if "|" not in name)


def cost_of_a_mail(room: Room) -> int:
    """Commands that one mail costs in the midst of a round: mark, settle, next claim."""
    job = room.sending()
    move = decide(ACCEPTED, 0, Policy(), lambda: 0.5)
    before = calls(room.redis)
    for _ in range(10):
        room.jump(0.1)
        following = room.ledger.settle(job, move, ACCEPTED, 1, claimant=Claimant(room.name("t"), 60), now=room.now)[1]
        assert following is not None
        job = following
        room.mark(job)
    room.settle(job, ACCEPTED)
    return (calls(room.redis) - before) // 10


def test_a_claim_costs_the_same_with_20_000_jobs_waiting_as_with_20(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=10**6, rates=((1000, 60),))})
    for _ in range(20):
        room.take()
    few = cost_of_a_mail(room)
    fill(room, 20_000)

    assert cost_of_a_mail(room) <= few + 2


def test_a_waiting_job_costs_redis_less_than_900_bytes_beyond_its_mail(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=10**6)})

    def used() -> int:
        return sum(room.redis.memory_usage(key, samples=0) for key in room.redis.scan_iter(PREFIX + "*", count=1000))

    before = used()
    payload = fill(room, 2_000)

    assert (used() - before) / 2_000 - payload < 900


def fill(room: Room, count: int) -> int:
    """Takes `count` jobs in, in one go; the length of one's payload."""
    a_mail = mail(subject="Your newsletter")
    room.take()
    pipe = room.redis.pipeline(transaction=False)
    for i in range(count):
        job_id = f"0b8f6c2e{i:012}"
        given = encode_mail(job_id, a_mail, a_mail.to_json(), f"news/{i:032x}", f"{i:032x}")
        pipe.fcall(f"{LIBRARY}take_in", 0, room.now, "news", "", "", *NOTHING_STAGED, *NOT_DEAD, *given)
    pipe.execute()
    return len(a_mail.to_json())


def test_a_job_that_waits_behind_its_app_says_until_when_and_why(room: Room) -> None:
    room.take()
    behind = room.take(mail(OTHER))
    room.settle(room.held(), NO_TOKEN)

    found = room.ledger.records.read(behind, now=room.now)

    assert (found.status, found.pause_reason) == ("queued", "invalid_client_secret")
    assert found.paused_until is not None


# Uploads


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


def test_a_lane_that_was_paused_since_makes_no_further_request(room: Room) -> None:
    room.take()
    job = room.held()
    room.ledger.pause("lane", SENDER, 7, "throttled", now=room.now)

    assert room.ledger.note(job, {"draft": "d-1"}, 0, 60, now=room.now) == 7
    assert room.record(job.id)[b"draft"] == b"d-1"


def test_jobs_that_are_due_and_expire_in_one_late_tick_all_end(room: Room) -> None:
    jobs = [room.take(mail(scheduled_at=room.at(3), expires_at=room.at(20))) for _ in range(3)]
    room.jump(30)
    room.tick()

    assert {room.read(job).status for job in jobs} == {"expired"}
    assert room.claim() is None
    assert room.redis.keys(PREFIX + "ready:*") == []


def lease_of(room: Room, job: Job) -> float:
    """Milliseconds that are left of it."""
    ends = room.redis.zscore(f"{PREFIX}leases", job.id)
    assert ends is not None
    return ends - room.now


def test_a_mark_renews_the_lease_unless_it_has_just_begun(room: Room) -> None:
    room.take()
    room.take()
    young, old = room.held(), room.held()
    room.jump(0.09)
    assert room.mark(young) == "marked"
    assert lease_of(room, young) == 59_910
    room.jump(0.01)

    assert room.mark(old) == "marked"

    assert lease_of(room, old) == 60_000


def test_each_further_mark_of_an_attempt_renews_the_lease(room: Room) -> None:
    room.take()
    job = room.held()
    for _ in range(3):
        room.jump(0.09)
        assert room.mark(job) == "marked"

    assert lease_of(room, job) == 60_000
