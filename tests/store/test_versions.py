"""Old and new together: what 0.1.0 left in Redis is finished by this version, and what a newer one needs is left to it.

`tests/recorded/VERSION.json` is a database as real workers of that version left it; `tests/acceptance/record.py` makes
one.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from postroom import Client
from postroom.graph.requests import GraphRequest, request_for
from postroom.jobs.job import Claimant, Job, Receipt
from postroom.jobs.job_filter import JobFilter
from postroom.jobs.outcome import Accepted, Answer, Found, Refused
from postroom.jobs.retry import OnUnknown, Policy, after_lookup, decide
from postroom.mail.address import Address
from postroom.mail.content import Stored
from postroom.mail.message import compose
from postroom.mail.model import Mail
from postroom.operations.dead_letters import DeadLetters, selection
from postroom.store.functions import PREFIX
from postroom.store.ledger import Ledger
from postroom.store.operator import Actor
from tests.acceptance.record import load

from .room import SENDER, Room, mail

RECORDS = sorted((Path(__file__).parents[1] / "recorded").glob("*.json"))
ORDER = Actor("order", "ops@mailhost")


class Old:
    """A database of an older version, from the moment it was recorded."""

    def __init__(self, connection: "redis.Redis[bytes]", found: dict[str, Any]) -> None:
        load(connection, found["keys"])
        self.redis, self.ledger, self.now = connection, Ledger(connection), found["now"]
        self.jobs: dict[str, str] = found["jobs"]
        self.ends: dict[str, str] = {}
        self.made = 0

    def states(self) -> dict[str, str]:
        return {name: str(self.ledger.records.read(job_id).status) for name, job_id in self.jobs.items()}

    def run(self, seconds: int, each: Callable[[Job], None]) -> None:
        """The clock runs with ticks, and what can be claimed is worked."""
        for _ in range(seconds):
            self.now += 1000
            self.ledger.tick("new:1", 8, 60, now=self.now)
            for lane in {name + "@contoso.com" for name in self.jobs}:
                while job := self.ledger.claim(lane, Claimant(self.name(), 60), now=self.now):
                    each(job)

    def finish(self, job: Job) -> None:
        """Sends it, or looks it up and finds it."""
        found: Any = Found(answer=Answer(http_status=200))
        if job.to_look_up:
            move = after_lookup(found, job, Policy(), OnUnknown.RESEND, lambda: 0.5)
        else:
            sent = Mail.from_json(job.mail)
            request = request_for(compose(sent, sent.sender or Address("", "x@contoso.com"), job.id, None, None))
            assert isinstance(request, GraphRequest)
            assert self.ledger.mark(job, self.name(), 1000, 60, now=self.now) == 0
            found = Accepted(answer=Answer(http_status=202))
            move = decide(found, job.attempts, Policy(), lambda: 0.5)
        assert self.ledger.settle(job, move, found, 7, now=self.now)[0]

    def name(self) -> str:
        self.made += 1
        return f"token-{self.made}"


@pytest.fixture(params=RECORDS, ids=lambda file: file.stem)
def old(request: pytest.FixtureRequest, connection: "redis.Redis[bytes]") -> Old:
    return Old(connection, json.loads(request.param.read_text(encoding="utf-8")))


def test_what_an_older_version_took_in_is_finished(old: Old) -> None:
    before = {name: len(old.ledger.records.read(job_id).attempts) for name, job_id in old.jobs.items()}
    assert old.states() == {
        "accepted": "accepted",
        "late": "dead",
        "refused": "dead",
        "cancelled": "cancelled",
        "expired": "expired",
        "scheduled": "deferred",
        "busy": "deferred",
        "held": "deferred",
        "doubt": "deferred",
        "sending": "sending",
        "queued": "queued",
        "queued-low": "queued",
    }

    old.run(90, old.finish)
    old.now += 3_600_000
    old.run(3, old.finish)

    ended = {name: status for name, status in old.states().items() if name not in {"late", "refused", "expired"}}
    assert ended == dict.fromkeys(ended, "accepted") | {"cancelled": "cancelled"}
    lost = [one for one in old.ledger.records.read(old.jobs["sending"]).attempts if one.reason == "worker_lost"]
    assert [one.worker for one in lost] == [None]  # that version did not say it
    for name, job_id in old.jobs.items():
        delivery = old.ledger.records.read(job_id)
        assert len(delivery.attempts) >= before[name]
        if delivery.status == "accepted" and name != "accepted":
            assert delivery.attempts[-1].outcome in {"accepted", "found"}
    assert old.redis.keys(PREFIX + "ready:*") + old.redis.keys(PREFIX + "claims:*") == []


def test_a_job_in_doubt_that_an_old_worker_made_ready_is_claimed_once(old: Old) -> None:
    doubt, lane = old.jobs["doubt"], "doubt@contoso.com"
    seq = old.redis.hget(f"{PREFIX}job:{doubt}", "seq")
    old.redis.zrem(f"{PREFIX}later:{lane}", doubt)
    old.redis.zadd(f"{PREFIX}ready:normal:{lane}", {doubt: float(seq or 0)})
    old.redis.hset(f"{PREFIX}job:{doubt}", "place", "ready")
    old.now += 10_000

    job = old.ledger.claim(lane, Claimant("one", 60), now=old.now)

    assert job is not None
    assert job.to_look_up
    assert old.ledger.claim(lane, Claimant("two", 60), now=old.now) is None


def test_dead_letters_of_an_older_version_are_listed_and_sent_again(old: Old) -> None:
    letters = DeadLetters(old.ledger)
    found = letters.overview(selection(), limit=10)
    assert {kind.reason: kind.count for kind in found.reasons} == {"unknown": 1, "invalid_recipients": 1}
    assert letters.show(old.jobs["refused"]).mail is not None

    ids = [old.jobs[name] for name in ("refused", "late", "expired")]
    said = old.ledger.requeue(ids, ORDER, expires="never", now=old.now)
    assert [reply.said for reply in said] == ["requeued", "look_up", "requeued"]
    old.run(90, old.finish)

    assert [old.states()[name] for name in ("refused", "late", "expired")] == ["accepted"] * 3
    assert [a.number for a in old.ledger.records.read(old.jobs["refused"]).attempts] == [1, 2]


def test_keys_and_batches_of_an_older_version_are_known(old: Old) -> None:
    sent = Mail.model_validate(
        {
            "from": "queued@contoso.com",
            "to": ["queued@contoso.com"],
            "subject": "Hello",
            "text": "Hi",
            "priority": "high",
        }
    )
    receipt = old.ledger.take_in("again", sent, "recorded/queued", "recorded", now=old.now)
    assert receipt == Receipt(id=old.jobs["queued"], known=True)
    assert Client(old.ledger).batch("recorded").total == len(old.jobs)
    assert len(old.ledger.records.newest(JobFilter(to="queued@contoso.com"), 9)) == 1

    told = Client(old.ledger).cancel_batch("recorded")
    assert (told.cancelled, told.in_doubt, told.accepted, told.sending, told.ended_before) == (5, 1, 1, 1, 4)


def test_records_of_an_older_version_are_swept_completely(old: Old) -> None:
    old.run(90, old.finish)
    old.now += 3_600_000
    old.run(3, old.finish)
    for days in (8, 91):
        old.now += days * 86_400_000
        old.run(3, old.finish)

    kinds = {key.decode().removeprefix(PREFIX).split(":")[0] for key in old.redis.scan_iter(PREFIX + "*", count=1000)}
    assert kinds & {"job", "mail", "attempts", "keys", "status", "batch", "to", "expiring", "doubts", "leases"} == set()


# Newer records.


def newer(room: Room, **fields: str) -> str:
    job_id = room.take()
    room.redis.hset(f"{PREFIX}job:{job_id}", mapping={"v": "3", "colour": "green", **fields})
    return job_id


def test_a_mail_that_needs_a_newer_worker_is_left_to_it_and_this_is_logged(room: Room) -> None:
    job_id, own = newer(room), room.take()

    assert room.held().id == own
    assert room.claim() is None
    delivery = room.read(job_id)
    assert (delivery.status, delivery.reason, delivery.next_at) == ("deferred", "newer_version", room.at(30))
    assert delivery.attempts == []
    told = room.ledger.tick("worker", 8, 60, now=room.now).events
    assert list(told) == [{"event": "mail.left", "job": job_id, "version": "3"}]
    room.jump(30)
    room.redis.hset(f"{PREFIX}job:{job_id}", "v", "1")  # as a newer worker understands it
    assert room.held().id == job_id


def test_only_what_came_as_mime_is_kept_from_workers_that_would_send_it_without_its_content(room: Room) -> None:
    source = b"To: ann@contoso.com\r\n\r\n" + b"x" * 100_000 + b"\r\n"
    as_mime = Mail.model_validate({"from": SENDER, "to": ["ann@contoso.com"], "mime": source})
    small, large = (room.take(one) for one in (as_mime.model_copy(update={"mime": source[:30]}), as_mime))
    plain = room.take()

    assert [room.record(job_id).get(b"v") for job_id in (small, large, plain)] == [b"2", b"2", None]
    job = {one.id: one for one in (room.held(), room.held(), room.held())}[large]
    assert b"xxxx" not in job.mail
    found = Mail.from_json(job.mail, room.ledger.attachments).mime
    assert isinstance(found, Stored)
    assert found.read(0, found.size) == source


def test_a_dead_letter_that_came_as_mime_needs_the_same_of_workers_when_it_is_changed(room: Room) -> None:
    source = b"To: ann@contoso.com\r\n\r\nhi\r\n"
    old = room.take(Mail.model_validate({"from": SENDER, "to": ["ann@contoso.com"], "mime": source}))
    room.send(Refused(reason="bad"))

    said, new = DeadLetters(room.ledger).change(old, {"to": ["bob@contoso.com"]}, ORDER)

    assert (said, room.record(new)[b"v"]) == ("replaced", b"2")
    assert Mail.from_json(room.held().mail).to == ("bob@contoso.com",)


def test_a_mail_for_a_newer_worker_can_be_cancelled_and_expires_and_is_swept(room: Room) -> None:
    cancelled = newer(room)
    assert room.claim() is None
    room.ledger.cancel(cancelled, now=room.now)
    expiring = room.take(mail(expires_at=room.at(40)))
    room.redis.hset(f"{PREFIX}job:{expiring}", "v", "3")
    assert room.claim() is None
    room.tick(41)
    assert (room.read(cancelled).status, room.read(expiring).status) == ("cancelled", "expired")
    for _ in range(2):
        room.jump(7201)
        room.tick()

    assert (room.record(cancelled), room.record(expiring)) == ({}, {})


def test_a_newer_mail_in_doubt_stays_in_doubt_until_a_newer_worker_looks_it_up(room: Room) -> None:
    job_id = newer(room, in_doubt="1")

    assert room.claim() is None
    assert (room.read(job_id).reason, room.read(job_id).in_doubt) == ("unknown", True)


def test_fields_of_a_newer_version_are_kept_through_a_requeue(room: Room) -> None:
    job_id = room.take()
    room.redis.hset(f"{PREFIX}job:{job_id}", "colour", "green")
    room.redis.set(f"{PREFIX}mail:{job_id}", '{"from":"post@contoso.com","to":["a@contoso.com"],"text":"x","shade":7}')
    room.send(Refused(reason="bad"))
    room.ledger.requeue([job_id], ORDER, now=room.now)

    job = room.held(SENDER)
    assert Mail.from_json(job.mail).text == "x"
    assert b'"shade":7' in job.mail
    assert room.record(job_id)[b"colour"] == b"green"
