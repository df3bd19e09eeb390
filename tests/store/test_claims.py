"""A round claims a job, marks it, settles it and is given the next; calls may be repeated."""

from postroom.jobs.job import Claimant
from postroom.jobs.retry import Policy, decide

from .room import ACCEPTED, NOT_ALLOWED, OTHER, Room, mail


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
