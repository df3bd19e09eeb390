"""Dead letters are counted, shown, worked off whole and discarded, and the audit tells who did it."""

import json

import pytest

from postroom.jobs.job import Status
from postroom.jobs.job_filter import JobFilter
from postroom.mail.model import Mail
from postroom.operations.dead_letters import DeadLetters, selection, without_content
from postroom.store.functions import PREFIX
from postroom.store.operator import Actor
from postroom.telemetry.redaction import mask_address

from ..store.room import OTHER, SENDER, Room, mail
from .letters import ORDER, WRONG, dead, dead_in_doubt, requeue, result


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


def test_a_dry_run_says_what_would_be_and_changes_nothing(room: Room, letters: DeadLetters) -> None:
    one, doubt = dead(room), dead_in_doubt(room)
    before = room.record(one), room.record(doubt)

    said = [reply.said for reply in letters.requeue([one, doubt, "nobody"], ORDER, dry_run=True)]
    discarded = [reply.said for reply in letters.discard([one, doubt], ORDER, dry_run=True)]
    assert letters.change(one, {"subject": "x"}, ORDER, dry_run=True)[0] == "replaced"

    assert said == ["requeued", "look_up", "unknown"]
    assert discarded == ["discarded", "discarded"]
    assert (room.record(one), room.record(doubt)) == before


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
def test_all_of_a_selection_is_requeued_though_it_shrinks_meanwhile(
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


def test_each_act_is_logged_once_and_without_an_address(room: Room, letters: DeadLetters) -> None:
    old = dead(room)
    waits = room.take()
    room.ledger.cancel(waits, now=room.now, actor=Actor("c", "root@mailhost", "for ann@contoso.com"))
    _, new = letters.change(old, {"subject": "x"}, Actor("r", "ann@contoso.com"))

    told = room.ledger.tick("worker", 8, 60, now=room.now).events

    assert list(told) == [
        {"event": "mail.cancelled", "job": waits, "by": "root@mailhost"},
        {"event": "mail.requeued", "job": new, "by": mask_address("ann@contoso.com")},
        {"event": "mail.replaced", "job": old, "by": mask_address("ann@contoso.com")},
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
