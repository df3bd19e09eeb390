"""What a person may do to jobs and lanes: cancel and pause."""

import pytest

from postroom.errors import TooLate, UnknownJob

from .room import ACCEPTED, SENDER, Room, mail


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
