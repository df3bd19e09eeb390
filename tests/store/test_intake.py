"""A mail is taken in once, under one id and one key, or leaves no trace."""

from dataclasses import replace
from typing import Any

import pytest

from postroom.errors import InvalidMail, KeyConflict, UnknownJob
from postroom.jobs.job import Receipt
from postroom.jobs.outcome import Refused
from postroom.mail.model import Attachment
from postroom.store.attachments import SMALL

from .room import FREE, SENDER, Room, mail


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


@pytest.mark.parametrize("key", ["", "x" * 501, "half an emoji: \ud83d", "a\nb", 7, {"a": 1}])
def test_a_key_that_is_none_is_a_fault_of_the_mail(room: Room, key: Any) -> None:
    with pytest.raises(InvalidMail, match="key: a string"):
        room.take(key=key)
