"""A claim lasts as long as its lease: what becomes of jobs whose worker is lost, or answers late."""

from dataclasses import replace

import pytest

from postroom.jobs.job import Claimant, Job
from postroom.jobs.outcome import NotPermitted, Refused
from postroom.store.functions import PREFIX
from postroom.store.ledger import Ledger

from .room import ACCEPTED, BUSY, FREE, NO_ANSWER, SENDER, Room, looked, mail


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


@pytest.mark.parametrize("apps", [(), (FREE.app,)], ids=["marked later", "marked with its claim"])
def test_an_attempt_names_its_worker_while_it_is_open_and_after_its_lease_is_lost(
    room: Room, apps: tuple[str, ...]
) -> None:
    ledger = Ledger(room.redis, signature={"worker": "host:7"})
    room.take()
    job = ledger.claim(SENDER, Claimant("token", 60, apps), now=room.now)
    assert job is not None
    if not apps:
        assert ledger.mark(job, "request", 1000, 60, now=room.now) == 0
    assert [(one.outcome, one.worker) for one in room.read(job.id).attempts] == [("open", "host:7")]

    room.tick(62)

    assert [(one.reason, one.worker) for one in room.read(job.id).attempts] == [("worker_lost", "host:7")]
    assert b"marked_by" not in room.record(job.id)


def test_an_attempt_that_an_older_version_marked_names_no_worker_and_not_the_one_before(room: Room) -> None:
    room.ledger = Ledger(room.redis, signature={"worker": "host:7"})
    room.take()
    job = room.sending()
    room.redis.hset(f"{PREFIX}job:{job.id}", "tries", "2")  # an older library counts, and leaves `marked_by`
    assert [(one.number, one.worker) for one in room.read(job.id).attempts] == [(2, None)]

    room.tick(62)

    assert [(one.number, one.worker) for one in room.read(job.id).attempts] == [(2, None)]


def test_a_mail_whose_worker_may_only_be_cut_off_is_sent_again_two_leases_later(room: Room) -> None:
    room.take()
    room.sending()
    room.tick(62 + 10)
    looked(room, NotPermitted())

    room.tick(2 * 60 - 10 - 2)
    assert room.claim() is None
    room.tick(3)
    assert room.held().resend


def test_a_202_that_a_cut_off_worker_reports_when_it_is_back_keeps_the_mail_from_being_sent_again(room: Room) -> None:
    job_id = room.take()
    cut_off = room.sending()
    room.tick(62 + 10)
    looked(room, NotPermitted())
    room.tick(30)

    room.settle(cut_off, ACCEPTED)

    room.tick(600)
    assert (room.claim(), room.read(job_id).status) == (None, "accepted")


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
