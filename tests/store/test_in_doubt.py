"""Mails in doubt are looked up before they are sent again, and drafts stay with their jobs. Time is an argument."""

from dataclasses import replace

import pytest

from postroom.errors import InvalidMail
from postroom.jobs.job import Job
from postroom.jobs.outcome import (
    Answer,
    CleanedUp,
    Deferred,
    Found,
    Held,
    NotFound,
    NotPermitted,
    Refused,
    Scope,
    Unknown,
)
from postroom.jobs.retry import OnUnknown, Policy, Transition, after_lookup
from postroom.mail.model import Attachment
from postroom.store.functions import PREFIX

from .room import ACCEPTED, BUSY, FREE, NO_ANSWER, OTHER, SENDER, Room, looked, mail


def test_a_mail_in_doubt_is_looked_up_first_without_rate_or_recipients(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((1, 60.0),), daily_recipients=1)})
    doubtful = room.take()
    room.send(NO_ANSWER)
    room.take(mail(priority="high"))
    room.jump(10)
    room.tick()

    job = room.held()

    assert (job.id, job.to_look_up, job.look_ups) == (doubtful, True, 0)
    assert room.claim() is None, "the rate is spent"


def test_a_mail_that_is_found_is_accepted_and_its_look_up_is_no_attempt(room: Room) -> None:
    doubtful = room.take()
    room.send(NO_ANSWER)
    room.tick(10)
    looked(room, NotFound(answer=Answer(http_status=200)))
    assert room.read(doubtful).next_at == room.at(50)
    room.tick(50)
    looked(room, Found(answer=Answer(http_status=200, request_id="r-9")))

    found = room.read(doubtful)
    assert (found.status, found.in_doubt, found.http_status) == ("accepted", False, None)
    assert [(a.number, a.outcome) for a in found.attempts] == [(1, "unknown"), (0, "notfound"), (0, "found")]
    assert room.redis.zcard(PREFIX + "doubts") == 0


def test_a_mail_to_be_sent_again_goes_before_normal_ones_and_after_high_ones(room: Room) -> None:
    doubtful = room.take()
    room.send(NO_ANSWER)
    normal, high = room.take(), room.take(mail(priority="high"))
    room.jump(10)
    room.tick()
    looked(room, NotPermitted())

    assert [room.held().id for _ in range(3)] == [high, doubtful, normal]


def test_while_its_lane_fails_a_mail_to_be_sent_again_lets_others_go_first(room: Room) -> None:
    for _ in range(3):
        room.take()
        room.send(NO_ANSWER)
    probe = room.take()
    room.tick(10)
    for _ in range(3):
        looked(room, NotPermitted())

    assert room.held().id == probe, "one that was not tried before"
    assert room.claim() is None, "one probe at a time"


def test_an_outage_ends_few_of_the_mails_that_are_to_be_sent_again(room: Room) -> None:
    jobs = [room.take() for _ in range(40)]
    spent = 0
    for _ in range(3600 // 3):
        job = room.claim()
        if job and job.to_look_up:
            move = after_lookup(NotPermitted(), job, Policy(), OnUnknown.RESEND, lambda: 1.0)
            room.ledger.settle(job, move, NotPermitted(), 7, now=room.now)
        elif job:
            assert room.mark(job) == "marked"
            room.settle(job, NO_ANSWER)
            spent += job.resend
        room.jump(2)
        room.tick(1)

    assert spent <= 4
    assert sum(room.read(job).status == "dead" for job in jobs) <= 4
    assert all(room.read(job).in_doubt for job in jobs)


def test_the_first_success_lets_all_mails_go_that_had_to_let_others_first(room: Room) -> None:
    for _ in range(3):
        room.take()
        room.send(NO_ANSWER)
    room.tick(10)
    for _ in range(3):
        looked(room, NotPermitted())
    assert room.claim() is None, "nothing but mails to be sent again: not yet"
    room.tick(60)

    room.send(ACCEPTED)

    assert room.held().resend
    assert room.held().resend


def test_a_worker_that_dies_while_it_looks_leaves_the_mail_in_doubt(room: Room) -> None:
    doubtful = room.take()
    room.send(NO_ANSWER)
    room.tick(10)
    room.held()
    room.tick(70)

    assert (room.read(doubtful).status, room.read(doubtful).reason) == ("deferred", "unknown")
    assert room.held().to_look_up


def drafted(room: Room) -> Job:
    job = room.held()
    assert room.ledger.note(job, {"drafting": "1"}, 0, 60, now=room.now) == 0
    assert room.ledger.note(job, {"draft": "d-1"}, 0, 60, now=room.now) == 0
    return job


def test_a_draft_is_kept_with_its_job_until_that_is_sent(room: Room) -> None:
    room.take()
    job = drafted(room)
    assert room.mark(job) == "marked"
    room.settle(job, BUSY)
    room.tick(10)

    again = room.held()
    assert (again.drafting, again.draft) == (True, "d-1")


@pytest.mark.parametrize("end", ["cancel", "expire", "refuse"])
def test_a_job_that_ends_unsent_goes_through_its_lane_once_more_for_its_draft(room: Room, end: str) -> None:
    job_id = room.take(mail(expires_at=room.at(100)))
    job = drafted(room)
    if end == "cancel":
        room.ledger.cancel(job_id, now=room.now)
        assert room.mark(job) == "void"
    elif end == "expire":
        room.settle(job, BUSY)
        room.tick(100)
    else:
        room.settle(job, Refused(reason="bad"))
    ended = room.read(job_id).status
    assert ended.ended

    left = room.held()
    assert (left.id, left.clean_up, left.draft) == (job_id, True, "d-1")
    room.ledger.settle(left, Transition(status=None), BUSY, 7, now=room.now)
    assert room.claim() is None
    room.tick(120)
    left = room.held()
    room.ledger.settle(left, Transition(status=None, cleaned_up=True), CleanedUp(), 7, now=room.now)

    assert room.read(job_id).status == ended
    assert room.record(job_id)[b"place"] == b"ended"
    room.tick(300)
    assert room.claim() is None


def test_a_dead_mail_in_doubt_keeps_its_draft(room: Room) -> None:
    room.take()
    job = drafted(room)
    assert room.mark(job) == "marked"
    room.settle(job, NO_ANSWER)
    room.tick(10)
    for wait in (50, 240, 0):
        looked(room, NotFound(draft_gone=True))
        room.tick(wait)

    found = room.read(job.id)
    assert (found.status, found.reason, found.in_doubt) == ("dead", "unknown", True)
    assert room.record(job.id)[b"draft"] == b"d-1"
    assert room.claim() is None


def test_the_draft_of_a_claim_that_was_lost_is_removed_when_its_job_ends(room: Room) -> None:
    room.take()
    stale = room.held()
    room.tick(70)
    again = room.held()
    assert again.id == stale.id

    assert room.ledger.note(stale, {"draft": "s-1"}, 0, 60, now=room.now) is None
    assert room.mark(again) == "marked"
    room.settle(again, ACCEPTED)

    left = room.held()
    assert (left.clean_up, left.sent, left.orphaned_drafts) == (True, True, ("s-1",))
    room.ledger.settle(left, Transition(status=None, cleaned_up=True), CleanedUp(), 7, now=room.now)
    assert room.read(left.id).status == "accepted"
    assert room.claim() is None
    assert room.ledger.note(stale, {"draft": "s-2"}, 0, 60, now=room.now) is None
    assert room.held().orphaned_drafts == ("s-2",), "also one that comes after the end"


def test_lost_claims_count_only_in_a_row(room: Room) -> None:
    job_id = room.take()
    for _ in range(4):
        for _ in range(2):
            room.held()
            room.tick(100)
        room.settle(room.held(), Deferred(reason="busy", free=True))
        room.tick(100)

    assert room.read(job_id).status != "dead"


def test_a_request_counts_into_the_rate_from_its_answer_on_for_graph_may_have_had_it_so_late(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((1, 60.0),))})
    room.take()
    room.take()
    out = room.sending()
    room.tick(25)
    room.settle(out, ACCEPTED)

    assert room.claim() is None
    room.tick(59)
    assert room.claim() is None, "25 s after its mark it may just have arrived"
    room.tick(3)
    assert room.claim() is not None


def test_the_request_of_a_lost_worker_counts_into_the_rate_from_the_end_of_its_lease_on(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((1, 60.0),))})
    doubtful = room.take()
    room.take()
    room.sending()
    room.tick(62)
    assert room.read(doubtful).reason == "unknown"

    found = room.claim()
    assert found is None or found.to_look_up


def test_a_spent_rate_keeps_no_look_up_waiting(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((1, 3600.0),))})
    doubtful = room.take()
    room.take()
    room.send(NO_ANSWER)
    room.tick(1)

    assert room.wakes_in() <= 10
    room.tick(10)
    assert room.held().id == doubtful


def test_a_draft_may_turn_up_after_its_mail_was_sent_from_another(room: Room) -> None:
    room.take()
    job = room.held()
    assert room.ledger.note(job, {"drafting": "1", "late_draft": "1", "draft": "d-1"}, 0, 60, now=room.now) == 0
    assert room.mark(job) == "marked"
    room.settle(job, ACCEPTED)
    assert room.claim() is None

    room.tick(61)

    left = room.held()
    assert (left.clean_up, left.sent, left.late_draft, left.draft) == (True, True, True, "d-1")


NO_DRAFTS = Held(reason="needs_mail_readwrite", scope=Scope.MAIL, answer=Answer(http_status=403))


def test_a_mail_that_only_a_draft_can_carry_is_held_alone_and_not_for_ever(room: Room) -> None:
    room.publish(hold_patience_s=3600)
    job_id = room.take()
    for _ in range(6):
        room.settle(room.held(), NO_DRAFTS)
        assert room.read(job_id).reason == "held"
        room.take()
        room.send()
        room.tick(600, every_s=10)

    room.settle(room.held(), NO_DRAFTS)
    assert (room.read(job_id).status, room.read(job_id).reason) == ("dead", "needs_mail_readwrite")


def test_a_large_mail_is_refused_while_its_sender_is_known_to_make_no_drafts(room: Room) -> None:
    large = mail(attachments=[Attachment("a.bin", b"x" * 3_100_000)])
    room.take(large)
    room.settle(room.held(), NO_DRAFTS)

    with pytest.raises(InvalidMail, match=r"Mail\.ReadWrite"):
        room.take(large)
    assert len(room.redis.keys(PREFIX + "files:*")) == 1, "the first one's"
    room.take()
    room.take(mail(sender=OTHER, attachments=[Attachment("a.bin", b"x" * 3_100_000)]))
    room.jump(3601)
    room.take(large)


def test_a_draft_that_could_be_made_lets_large_mails_in_again(room: Room) -> None:
    large = mail(attachments=[Attachment("a.bin", b"x" * 3_100_000)])
    room.take(large)
    room.settle(room.held(), NO_DRAFTS)
    room.tick(601)
    drafted(room)

    room.take(large)


def test_an_unknown_outcome_that_names_a_time_pauses_the_lane_and_is_a_failure_too(room: Room) -> None:
    room.take()
    waiting = room.take()
    room.send(Unknown(reason="server_busy", wait_s=7, answer=Answer(http_status=503)))

    assert room.ledger.records.read(waiting, now=room.now).pause_reason == "server_busy"
    assert room.claim() is None
    assert room.redis.hget(f"{PREFIX}lane:{SENDER}", "row") == b"1"
    room.tick(7)
    assert room.held().id == waiting
