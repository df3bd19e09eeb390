"""A dead letter that a person changes is a new job, which takes the place of the old one."""

import json

import pytest

from postroom.errors import InvalidMail, KeyConflict, UnknownJob
from postroom.jobs.job import Receipt
from postroom.mail.model import Mail
from postroom.operations.dead_letters import DeadLetters, without_content
from postroom.store.functions import PREFIX
from postroom.store.operator import Actor

from ..store.room import OTHER, SENDER, Room, mail
from .letters import ORDER, WRONG, dead, dead_in_doubt, result


def test_a_changed_letter_is_a_new_job_that_answers_for_the_old_one_s_key(room: Room, letters: DeadLetters) -> None:
    asked = mail(subject="Hello")
    old = room.take(asked, key="k", batch="b")
    room.send(WRONG)

    said, new = letters.change(old, {"to": ["right@contoso.com"]}, ORDER)

    assert said == "replaced"
    before, after = room.read(old), room.read(new)
    assert (before.status, before.reason, before.replaced_by) == ("cancelled", "replaced", new)
    assert (after.status, after.requeued_from, after.key, after.batch) == ("queued", old, "k", "b")
    assert Mail.from_json(room.held().mail).to[0].address == "right@contoso.com"
    assert room.receipt(asked, key="k") == Receipt(id=new, known=True)
    with pytest.raises(KeyConflict):
        room.take(mail(subject="Another"), key="k")
    assert (result(room, old), result(room, new)) == ("REVOKED", "PENDING")


def test_a_letter_that_was_changed_or_has_left_is_not_changed_again(room: Room, letters: DeadLetters) -> None:
    old = dead(room)
    letters.change(old, {"subject": "x"}, ORDER)
    left = room.take()
    room.ledger.cancel(left, room.now)

    assert letters.change(old, {"subject": "y"}, Actor("2", "x")) == ("not_dead", "")
    assert letters.change(left, {"subject": "y"}, Actor("2", "x")) == ("not_dead", "")


def test_a_change_whose_reply_was_lost_is_made_once(room: Room, letters: DeadLetters) -> None:
    old = dead(room)
    first = letters.change(old, {"subject": "x"}, ORDER)

    assert room.ledger.replace(old, first[1], mail(), ["subject"], ORDER, now=room.now) == "replaced"
    assert room.ledger.replace(old, "another", mail(), ["subject"], Actor("2", "x"), now=room.now) == "not_dead"
    assert room.redis.zcard(PREFIX + "status:queued") == 1


def test_a_letter_in_doubt_is_changed_only_by_a_person_who_accepts_a_second_copy(
    room: Room, letters: DeadLetters
) -> None:
    job_id = dead_in_doubt(room)

    assert letters.change(job_id, {"subject": "x"}, ORDER)[0] == "in_doubt"
    assert room.read(job_id).status == "dead"
    assert letters.change(job_id, {"subject": "x"}, ORDER, twice=True)[0] == "replaced"


def test_a_changed_letter_past_its_expiry_needs_another(room: Room, letters: DeadLetters) -> None:
    job_id = room.take(mail(expires_at=room.at(5)))
    room.tick(6)
    said = room.ledger.replace(job_id, "n", mail(expires_at=room.at(-1)), ["to"], ORDER, now=room.now)

    assert said == "past_expiry"
    assert letters.change(job_id, {"expires_at": None}, ORDER)[0] == "replaced"


def test_changes_leave_out_what_is_null_and_add_variables(room: Room, letters: DeadLetters) -> None:
    old = room.take(
        Mail(sender=SENDER, to=["a@contoso.com"], template="welcome", variables={"a": 1, "b": 2}, locale="de")
    )
    room.send(WRONG)

    _, new = letters.change(old, {"variables": {"b": 3}, "locale": None, "from": OTHER}, ORDER)

    sent = Mail.from_json(room.held(OTHER).mail)
    assert (sent.variables, sent.locale, sent.template) == ({"a": 1, "b": 3}, None, "welcome")
    assert room.read(new).sender == OTHER


def test_a_change_that_is_no_field_is_refused_and_not_left_out(room: Room, letters: DeadLetters) -> None:
    job_id = dead(room)

    with pytest.raises(InvalidMail, match="subjct: no such field"):
        letters.change(job_id, {"subjct": "x"}, ORDER)
    assert room.read(job_id).status == "dead"


def test_a_field_of_a_newer_version_is_left_out_only_on_request(room: Room, letters: DeadLetters) -> None:
    job_id = dead(room)
    room.redis.set(f"{PREFIX}mail:{job_id}", '{"from":"post@contoso.com","to":["a@contoso.com"],"text":"x","shade":7}')

    with pytest.raises(InvalidMail, match="shade"):
        letters.change(job_id, {"subject": "x"}, ORDER)
    assert letters.change(job_id, {"subject": "x", "shade": None}, ORDER)[0] == "replaced"


def test_a_letter_that_is_no_valid_mail_cannot_name_stored_files_of_another(room: Room, letters: DeadLetters) -> None:
    stored = {"where": "redis", "name": "others", "number": 0, "piece": 9, "size": 9, "sha256": "0"}
    attachment = {"filename": "a.txt", "content": stored}
    payload = json.dumps({"from": SENDER, "to": ["nobody"], "text": "x", "attachments": [attachment]})
    room.ledger.take_in_dead("task", SENDER, payload, "invalid", "to.0: not an address", now=room.now)

    with pytest.raises(InvalidMail, match="attachments"):
        letters.change("task", {"to": ["ann@contoso.com"]}, ORDER)
    assert without_content({"attachments": [attachment]}) == {"attachments": [{"filename": "a.txt", "bytes": 9}]}


def test_a_letter_whose_mail_is_gone_cannot_be_changed(letters: DeadLetters) -> None:
    with pytest.raises(UnknownJob):
        letters.change("nobody", {"subject": "x"}, ORDER)


STORED = {
    "where": "folder",
    "name": "x",
    "number": "/etc/passwd",
    "piece": 10_000,
    "size": 100,
    "sha256": "0" * 64,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"attachments": [{"filename": "a.txt", "content": STORED}]},
        {"attachments": [{"filename": "a.txt", "content": STORED | {"number": 0}}]},
        {"attachments": {"filename": "a.txt", "content": STORED}},
        {"mime": STORED | {"number": 0}},
    ],
)
def test_a_change_cannot_name_content_that_is_stored(
    room: Room, letters: DeadLetters, changes: dict[str, object]
) -> None:
    old = dead(room)

    with pytest.raises(InvalidMail, match="stored content cannot be named"):
        letters.change(old, changes, ORDER)
