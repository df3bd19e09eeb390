"""A dead letter that a person requeues is the same job again."""

import pytest

from postroom.errors import InvalidMail
from postroom.jobs.job import Receipt
from postroom.operations.dead_letters import DeadLetters
from postroom.store.functions import PREFIX
from postroom.store.operator import Actor

from ..store.room import ACCEPTED, BUSY, NO_ANSWER, OTHER, SENDER, Room, mail
from .letters import ORDER, WRONG, dead, dead_in_doubt, look_up, requeue, result


def test_a_requeued_letter_is_the_same_job_with_all_its_attempts_and_its_history(room: Room) -> None:
    job_id = room.take(key="k", batch="b")
    for _ in range(3):
        room.send(BUSY)
        room.jump(3600)
    assert (room.read(job_id).status, result(room, job_id)) == ("dead", "FAILURE")

    assert requeue(room, job_id) == "requeued"

    assert (room.read(job_id).status, room.read(job_id).reason, result(room, job_id)) == ("queued", None, "PENDING")
    assert room.rounds() != []
    job = room.sending()
    assert (job.id, job.attempts) == (job_id, 0)
    assert room.settle(job, ACCEPTED)
    delivery = room.read(job_id)
    assert ([a.number for a in delivery.attempts], delivery.key, delivery.batch) == ([1, 2, 3, 4], "k", "b")
    assert result(room, job_id) == "SUCCESS"
    assert room.receipt(key="k") == Receipt(id=job_id, known=True)


def test_the_same_order_again_changes_nothing_even_when_the_letter_has_died_again(room: Room) -> None:
    job_id = dead(room)
    assert requeue(room, job_id) == "requeued"
    room.send(WRONG)

    assert requeue(room, job_id) == "requeued"
    assert room.read(job_id).status == "dead"
    assert requeue(room, job_id, Actor("order-2", "ops@mailhost")) == "requeued"
    assert room.read(job_id).status == "queued"


def test_a_letter_past_its_expiry_needs_a_new_one_or_none(room: Room) -> None:
    first, second, third = (room.take(mail(expires_at=room.at(5))) for _ in range(3))
    room.tick(6)
    assert room.read(first).status == "expired"

    assert requeue(room, first) == "past_expiry"
    assert requeue(room, first, expires=room.at(-1)) == "past_expiry"
    assert requeue(room, first, expires="never") == "requeued"
    assert requeue(room, second, expires=room.at(60)) == "requeued"
    assert room.read(third).status == "expired"
    assert room.read(second).expires_at == room.at(60)
    room.tick(61)

    assert (room.read(first).status, room.read(first).expires_at) == ("queued", None)
    assert room.read(second).status == "expired"


def test_a_letter_that_may_have_been_sent_is_looked_up_first(room: Room) -> None:
    job_id = dead_in_doubt(room)

    assert requeue(room, job_id) == "look_up"

    delivery = room.read(job_id)
    assert (delivery.status, delivery.reason, delivery.in_doubt) == ("deferred", "unknown", True)
    assert room.redis.zscore(PREFIX + "doubts", job_id) is not None
    job = room.held()
    assert (job.id, job.to_look_up, job.look_ups, job.resends) == (job_id, True, 0, 0)


def test_a_person_who_accepts_a_second_copy_may_have_it_sent_at_once(room: Room) -> None:
    job_id = room.take()
    first = room.sending()
    room.settle(first, NO_ANSWER)
    room.jump(10)
    look_up(room)
    room.send(NO_ANSWER)
    room.jump(10)
    look_up(room)

    assert requeue(room, job_id, twice=True) == "requeued"
    assert (room.read(job_id).status, room.read(job_id).in_doubt) == ("queued", False)
    assert room.sending().in_doubt is False
    assert room.settle(first, ACCEPTED)  # its 202 comes after all, and is believed
    room.tick(70)
    assert room.read(job_id).status == "accepted"


def test_requeued_letters_line_up_behind_what_waits(room: Room) -> None:
    old = dead(room)
    new = room.take()
    requeue(room, old)

    assert [room.held().id, room.held().id] == [new, old]


def test_a_requeued_letter_goes_into_its_sender_s_present_lane(room: Room) -> None:
    job_id = dead(room)
    room.publish()
    room.redis.hset(PREFIX + "config", f"alias:{SENDER}", OTHER)

    requeue(room, job_id)

    assert room.held(OTHER).id == job_id


def test_a_letter_that_is_no_valid_mail_is_not_sent_but_can_be_corrected(room: Room, letters: DeadLetters) -> None:
    payload = '{"from": "post@contoso.com", "to": ["nobody"], "text": "Hi"}'
    room.ledger.take_in_dead("task", SENDER, payload, "invalid", "to.0: not an address", now=room.now)

    assert requeue(room, "task") == "no_mail"
    with pytest.raises(InvalidMail):
        letters.change("task", {"subject": "Hello"}, ORDER)
    said, new_id = letters.change("task", {"to": ["ann@contoso.com"]}, ORDER)
    assert (said, room.read(new_id).status) == ("replaced", "queued")


def test_a_letter_whose_draft_is_being_removed_waits_for_that(room: Room) -> None:
    job_id = room.take()
    job = room.held()
    room.ledger.note(job, {"drafting": "1"}, 0, 60, now=room.now)
    room.mark(job)
    room.settle(job, WRONG)
    tidying = room.held()
    assert tidying.clean_up

    assert requeue(room, job_id) == "busy"
    assert room.ledger.replace(job_id, "new", mail(), ["to"], ORDER, now=room.now) == "busy"
    room.tick(62)
    assert requeue(room, job_id) == "requeued"
    again = room.held()
    assert (again.id, again.clean_up, again.drafting) == (job_id, False, True)
    assert room.claim() is None
