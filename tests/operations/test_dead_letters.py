"""What a person can do about dead letters and batches, on a real server, with the time passed in."""

import json
from typing import Any

import celery
import pytest
from celery.result import AsyncResult

from postroom import Client
from postroom.errors import InvalidMail, KeyConflict, UnknownJob
from postroom.jobs.job import Receipt, Status
from postroom.jobs.job_filter import JobFilter
from postroom.jobs.outcome import Answer, NotPermitted, Refused
from postroom.mail.model import Mail
from postroom.operations.dead_letters import DeadLetters, selection, without_content
from postroom.store.functions import PREFIX
from postroom.store.ledger import Ledger
from postroom.store.operator import Actor

from ..store.room import ACCEPTED, BUSY, NO_ANSWER, OTHER, SENDER, Room, looked, mail

WRONG = Refused(reason="invalid_recipients", answer=Answer(http_status=400, graph_code="ErrorInvalidRecipients"))
ORDER = Actor("order-1", "ops@mailhost", "mended")


@pytest.fixture
def letters(room: Room) -> DeadLetters:
    return DeadLetters(Ledger(room.redis))


def dead(room: Room, key: str | None = None, batch: str | None = None, **fields: Any) -> str:
    """A letter that died of one refusal."""
    job_id = room.take(mail(**fields), key=key, batch=batch)
    assert room.send(WRONG, fields.get("sender", SENDER)) == job_id
    return job_id


def dead_in_doubt(room: Room) -> str:
    """One that nobody may look up, and whose second outcome is unknown as well."""
    job_id = room.take()
    for _ in range(2):
        room.send(NO_ANSWER)
        room.jump(10)
        look_up(room)
    assert (room.read(job_id).status, room.read(job_id).reason) == (Status.DEAD, "unknown")
    return job_id


def look_up(room: Room) -> None:
    """The next job is looked up, which is not permitted."""
    looked(room, NotPermitted(answer=Answer(http_status=403)))


def requeue(room: Room, job_id: str, actor: Actor = ORDER, **how: Any) -> str:
    return room.ledger.requeue([job_id], actor, now=room.now, **how)[0].said


def result(room: Room, job_id: str) -> str:
    url = room.redis.connection_pool.connection_kwargs["path"]
    with celery.Celery(backend=f"redis+socket://{url}") as app:
        return str(AsyncResult(job_id, app=app).state)


# Requeue.


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


@pytest.mark.parametrize("state", ["queued", "sending", "accepted", "cancelled"])
def test_what_is_not_dead_stays_as_it_is(room: Room, state: str) -> None:
    job_id = room.take()
    if state == "cancelled":
        room.ledger.cancel(job_id, now=room.now)
    elif state == "sending":
        room.sending()
    elif state == "accepted":
        room.send()
    before = room.record(job_id)

    assert room.ledger.requeue([job_id, "nobody"], ORDER, now=room.now) == [
        (job_id, "not_dead", state),
        ("nobody", "unknown", ""),
    ]
    assert room.ledger.discard([job_id], ORDER, now=room.now)[0].said == "not_dead"
    assert room.ledger.replace(job_id, "new", mail(), ["to"], ORDER, now=room.now) == "not_dead"
    assert room.record(job_id) == before


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


def test_who_knows_that_a_second_copy_is_right_sends_it_at_once(room: Room) -> None:
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


def test_a_requeued_letter_goes_the_way_that_its_sender_has_now(room: Room) -> None:
    job_id = dead(room)
    room.publish()
    room.redis.hset(PREFIX + "config", f"alias:{SENDER}", OTHER)

    requeue(room, job_id)

    assert room.held(OTHER).id == job_id


def test_what_came_as_no_mail_is_not_sent_but_can_be_made_one(room: Room, letters: DeadLetters) -> None:
    payload = '{"from": "post@contoso.com", "to": ["nobody"], "text": "Hi"}'
    room.ledger.take_in_dead("task", SENDER, payload, "invalid", "to.0: not an address", now=room.now)

    assert requeue(room, "task") == "no_mail"
    with pytest.raises(InvalidMail):
        letters.change("task", {"subject": "Hello"}, ORDER)
    said, new_id = letters.change("task", {"to": ["ann@contoso.com"]}, ORDER)
    assert (said, room.read(new_id).status) == ("replaced", "queued")


def test_a_dry_run_says_what_would_be_and_changes_nothing(room: Room, letters: DeadLetters) -> None:
    one, doubt = dead(room), dead_in_doubt(room)
    before = room.record(one), room.record(doubt)

    said = [reply.said for reply in letters.requeue([one, doubt, "nobody"], ORDER, dry_run=True)]
    discarded = [reply.said for reply in letters.discard([one, doubt], ORDER, dry_run=True)]
    assert letters.change(one, {"subject": "x"}, ORDER, dry_run=True)[0] == "replaced"

    assert said == ["requeued", "look_up", "unknown"]
    assert discarded == ["discarded", "discarded"]
    assert (room.record(one), room.record(doubt)) == before


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


# Changed letters.


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


def test_a_letter_in_doubt_is_changed_only_by_who_takes_the_second_copy_on_himself(
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


def test_a_field_of_a_newer_version_is_not_left_out_unless_told_so(room: Room, letters: DeadLetters) -> None:
    job_id = dead(room)
    room.redis.set(f"{PREFIX}mail:{job_id}", '{"from":"post@contoso.com","to":["a@contoso.com"],"text":"x","shade":7}')

    with pytest.raises(InvalidMail, match="shade"):
        letters.change(job_id, {"subject": "x"}, ORDER)
    assert letters.change(job_id, {"subject": "x", "shade": None}, ORDER)[0] == "replaced"


def test_what_came_as_no_mail_cannot_name_the_stored_files_of_another(room: Room, letters: DeadLetters) -> None:
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


# Discard.


def test_a_discarded_letter_is_cancelled_without_its_mail_and_swept_in_time(room: Room) -> None:
    job_id = dead(room, key="k")

    assert room.ledger.discard([job_id], ORDER, now=room.now)[0] == (job_id, "discarded", "cancelled")
    assert room.ledger.discard([job_id], ORDER, now=room.now)[0].said == "discarded"
    delivery = room.read(job_id)
    assert (delivery.status, delivery.reason, len(delivery.audit)) == ("cancelled", "discarded", 1)
    assert (room.ledger.records.payload(job_id), result(room, job_id)) == (None, "REVOKED")
    room.jump(3601)
    room.tick()
    assert room.record(job_id) == {}
    assert not room.receipt(key="k").known


def test_a_letter_that_nobody_touches_stays_as_long_as_its_retention(room: Room) -> None:
    job_id = dead(room)
    room.jump(7199)
    room.tick()
    assert room.read(job_id).status == "dead"
    room.jump(2)
    room.tick()
    assert room.record(job_id) == {}


# Selections.


def test_an_overview_counts_by_reason_and_shows_the_newest(room: Room, letters: DeadLetters) -> None:
    wrong = [dead(room, batch="b") for _ in range(3)]
    room.jump(1)
    other = dead(room, sender=OTHER)
    doubt = dead_in_doubt(room)
    room.take()

    found = letters.overview(selection(), limit=2)

    kinds = {kind.reason: (kind.count, kind.in_doubt, kind.newest and kind.newest.id) for kind in found.reasons}
    assert kinds == {"invalid_recipients": (4, 0, other), "unknown": (1, 1, doubt)}
    assert [kind.reason for kind in found.reasons] == ["invalid_recipients", "unknown"]
    assert (found.total, [job.id for job in found.letters]) == (5, [doubt, other])
    assert set(letters.select(selection(batch="b"))) == set(wrong)
    assert list(letters.select(selection(senders=[OTHER.upper()]))) == [other]
    assert list(letters.select(selection(reason="unknown"))) == [doubt]
    assert list(letters.select(selection(since=room.at(-5)))) == [doubt]
    assert list(letters.select(selection(reason="unknown", batch="b"))) == []


def test_expired_jobs_are_selected_by_that_reason_alone(room: Room, letters: DeadLetters) -> None:
    job_id = room.take(mail(expires_at=room.at(5)))
    room.tick(6)

    assert letters.overview(selection(), 9).total == 0
    assert list(letters.select(selection(reason="expired"))) == [job_id]


@pytest.mark.parametrize("same_moment", [True, False])
def test_a_selection_is_worked_off_whole_though_it_shrinks_meanwhile(
    room: Room, letters: DeadLetters, same_moment: bool
) -> None:
    ids = set()
    for _ in range(25):
        ids.add(dead(room))
        room.jump(0 if same_moment else 0.5)

    done = []
    for page in room.ledger.records.pages(JobFilter(status=Status.DEAD), looks=7):
        done += [reply.id for reply in letters.requeue(page.ids, ORDER) if reply.said == "requeued"]

    assert len(done) == 25
    assert set(done) == ids


def test_an_interrupted_order_is_finished_by_another(room: Room, letters: DeadLetters) -> None:
    ids = {dead(room) for _ in range(205)}
    first = letters.discard(letters.select(selection()), ORDER)
    done = {next(first).id for _ in range(3)}
    first.close()

    done |= {reply.id for reply in letters.discard(letters.select(selection()), Actor("2", "x"))}

    assert room.redis.zcard(PREFIX + "status:cancelled") == 205
    assert done < ids


# Audit.


def test_the_audit_tells_who_when_why_and_what_and_is_bounded(room: Room, letters: DeadLetters) -> None:
    old = dead(room)
    for number in range(25):
        room.jump(1)
        requeue(room, old, Actor(f"order-{number}", "ops@mailhost", f"reason {number}"))
        room.send(WRONG)
    _, new = letters.change(old, {"to": ["x@contoso.com"]}, Actor("last", "ann@contoso.com"))

    audit = room.read(old).audit
    assert (len(audit), audit[0].why) == (20, "reason 6")
    assert (audit[-1].did, audit[-1].by, audit[-1].why) == ("replaced", "ann@contoso.com", None)
    assert (audit[-1].fields, audit[-1].job) == (("to",), new)
    assert [(a.did, a.job) for a in room.read(new).audit] == [("requeued", old)]
    assert room.read(old).audit[-2].at == room.at(0)


def test_the_log_is_told_of_each_act_once_and_never_an_address(room: Room, letters: DeadLetters) -> None:
    old = dead(room)
    waits = room.take()
    room.ledger.cancel(waits, now=room.now, actor=Actor("c", "root@mailhost", "for ann@contoso.com"))
    _, new = letters.change(old, {"subject": "x"}, Actor("r", "ann@contoso.com"))

    told = room.ledger.tick("worker", 8, 60, now=room.now).events

    assert list(told) == [
        {"event": "mail.cancelled", "job": waits, "by": "root@mailhost"},
        {"event": "mail.requeued", "job": new, "by": "a…@contoso.com"},
        {"event": "mail.replaced", "job": old, "by": "a…@contoso.com"},
    ]
    assert room.ledger.tick("worker", 8, 60, now=room.now).events == ()


# Showing.


def test_a_letter_is_shown_without_its_content_unless_asked(room: Room, letters: DeadLetters) -> None:
    job_id = room.take(
        Mail(
            sender=SENDER,
            to=["ann@contoso.com"],
            template="reset",
            variables={"link": "https://secret"},
            attachments=[{"filename": "a.txt", "content": "SGk="}],
        )
    )

    shown = letters.show(job_id).mail
    assert shown is not None
    assert (shown["to"], shown["variables"]) == (["ann@contoso.com"], "(link)")
    assert shown["attachments"] == [{"filename": "a.txt", "bytes": 2}]
    assert "secret" not in json.dumps(shown)
    assert without_content({"text": "Hi"}) == {"text": "(2 characters)"}
    whole = letters.show(job_id, content=True).mail
    assert whole is not None
    assert whole["variables"] == {"link": "https://secret"}


# Batches.


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
