"""Cancelling a batch stops what has not left, and tells what became of the rest."""

from postroom import Client
from postroom.jobs.job_filter import JobFilter
from postroom.store.operator import Actor

from ..store.room import NO_ANSWER, Room, mail
from .letters import ORDER, dead


def test_cancelling_a_batch_stops_what_has_not_left_and_says_how_much_had(room: Room) -> None:
    client = Client(room.ledger)
    accepted = room.take(batch="b")
    room.send()
    dead(room, batch="b")
    doubt = room.take(batch="b")
    room.send(NO_ANSWER)
    sending = room.take(batch="b")
    room.sending()
    claimed = room.take(batch="b")
    room.held()
    waiting = [room.take(batch="b", a_mail=mail(scheduled_at=room.at(60))), room.take(batch="b")]
    other = room.take(batch="c")

    told = client.cancel_batch("b", by="ops@mailhost", why="wrong list")

    assert (told.cancelled, told.in_doubt, told.accepted, told.sending, told.ended_before) == (3, 1, 1, 1, 1)
    counts = client.batch("b")
    assert (counts.total, counts.cancelled, counts.in_doubt, counts.sending) == (7, 4, 1, 1)
    for job_id in (claimed, *waiting):
        assert (room.read(job_id).status, room.read(job_id).audit[0].why) == ("cancelled", "wrong list")
    assert (room.read(doubt).status, room.read(doubt).reason) == ("cancelled", "unknown")
    assert [room.read(i).status for i in (accepted, sending, other)] == ["accepted", "sending", "queued"]
    assert client.cancel_batch("b").cancelled == 0


def test_what_is_taken_in_for_a_batch_while_it_is_cancelled_is_new_mail(room: Room) -> None:
    before = {room.take(batch="b") for _ in range(6)}
    seen = set()
    for page in room.ledger.records.pages(JobFilter(batch="b"), looks=2):
        room.take(batch="b")
        seen |= set(page.ids)

    assert seen == before
    assert Client(room.ledger).batch("none").total == 0


def test_a_batch_cancelled_with_a_lost_reply_counts_the_same(room: Room) -> None:
    job_id = room.take(batch="b")
    first = room.ledger.cancel_many([job_id], ORDER, now=room.now)

    assert room.ledger.cancel_many([job_id], ORDER, now=room.now) == first
    assert room.ledger.cancel_many([job_id], Actor("2", "x"), now=room.now)[0].said == "late"
    assert len(room.read(job_id).audit) == 1
