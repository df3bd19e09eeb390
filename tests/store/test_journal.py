"""The journal, on a real server: who gets which entries, what is kept, and what a lagging consumer loses."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from postroom import consumers
from postroom.errors import PostroomError
from postroom.jobs.outcome import Answer, Deferred, Refused
from postroom.mail.model import Mail
from postroom.store import functions as scripts
from postroom.store import journal as journals
from postroom.store.functions import PREFIX
from postroom.store.journal import CallbackStream, Entry, Journal
from postroom.store.operator import Actor

from .room import ACCEPTED, SENDER, Room, mail

BUSY = Deferred(reason="busy", answer=Answer(http_status=503, request_id="r1"))


@pytest.fixture
def journal(room: Room) -> Journal:
    return Journal(room.redis, "worker:1")


def entries(journal: Journal, consumer: str, count: int = 1000) -> list[Entry]:
    return journal.read(consumer, count, 0.001)


def keys(room: Room) -> set[bytes]:
    return set(room.redis.keys(f"{PREFIX}journal*"))


# Entries


def test_without_a_subscriber_nothing_is_written(room: Room) -> None:
    room.take()
    room.send()

    assert keys(room) == set()


def test_a_mail_s_attempts_and_its_end_are_reported_in_their_order(room: Room, journal: Journal) -> None:
    journal.subscribe("audit")
    job_id = room.take(mail(), key="k", batch="news")
    room.send(BUSY)
    room.jump(600)
    room.send()

    first, second, end = entries(journal, "audit")
    assert [entry.kind for entry in (first, second, end)] == ["attempt", "attempt", "ended"]
    assert {entry.job_id for entry in (first, second, end)} == {job_id}
    assert (first.attempt["outcome"], first.attempt["number"], first.attempt["http_status"]) == ("deferred", 1, 503)
    assert (second.attempt["outcome"], second.attempt["number"]) == ("accepted", 2)
    told = {"status": "accepted", "number": "2", "sender": SENDER, "batch": "news", "key": "k"}
    assert told.items() <= end.fields.items()
    assert end.time == room.read(job_id).ended_at


def test_no_entry_has_content_or_a_recipient(room: Room, journal: Journal) -> None:
    journal.subscribe("audit")
    room.take(Mail(sender=SENDER, to=["ann@fabrikam.com"], subject="Secret subject", text="Secret text"))
    room.send()

    everything = repr(entries(journal, "audit"))
    assert "ecret" not in everything
    assert "fabrikam" not in everything


@pytest.mark.parametrize("end", ["refused", "expired", "cancelled", "discarded"])
def test_each_kind_of_end_is_reported_once(room: Room, journal: Journal, end: str) -> None:
    journal.subscribe("audit", ["ended"])
    job_id = room.take(mail(expires_at=room.at(60)))
    if end in ("refused", "discarded"):
        room.send(Refused(reason="bad"))
    if end == "expired":
        room.tick(61)
    if end == "cancelled":
        room.ledger.cancel(job_id, now=room.now)
    if end == "discarded":
        room.ledger.discard([job_id], Actor(room.name("act"), "ops@mailhost"), now=room.now)

    told = [(entry.fields["status"], entry.fields["reason"]) for entry in entries(journal, "audit")]
    assert (
        told
        == {
            "refused": [("dead", "bad")],
            "expired": [("expired", "expired")],
            "cancelled": [("cancelled", "cancelled")],
            "discarded": [("dead", "bad"), ("cancelled", "discarded")],
        }[end]
    )


def test_a_repeated_settle_is_reported_once(room: Room, journal: Journal) -> None:
    journal.subscribe("audit")
    room.take()
    job = room.sending()
    for _ in range(2):
        room.settle(job, ACCEPTED)

    assert [entry.kind for entry in entries(journal, "audit")] == ["attempt", "ended"]


# Consumers


def test_each_consumer_gets_all_of_its_kinds_from_its_subscription_on(room: Room, journal: Journal) -> None:
    journal.subscribe("first", ["ended"])
    room.take()
    room.send()
    journal.subscribe("second", ["ended"])
    room.take()
    room.send()

    assert [len(entries(journal, name)) for name in ("first", "second")] == [2, 1]
    assert {lag.consumer: lag.kinds for lag in journal.lag()} == {"first": ("ended",), "second": ("ended",)}


def test_an_entry_is_given_to_one_reader_only(room: Room, journal: Journal) -> None:
    journal.subscribe("audit", ["ended"])
    for _ in range(2):
        room.take()
        room.send()

    ours = entries(journal, "audit", 1)
    theirs = entries(Journal(room.redis, "worker:2"), "audit")
    assert {entry.job_id for entry in ours}.isdisjoint(entry.job_id for entry in theirs)
    assert len(theirs) == 1


def test_to_subscribe_again_changes_nothing_and_loses_nothing(room: Room, journal: Journal) -> None:
    journal.subscribe("audit", ["ended"])
    room.take()
    room.send()
    journal.subscribe("audit", ["ended"])

    assert len(entries(journal, "audit")) == 1


@pytest.mark.parametrize(("name", "kinds"), [("audit", ["letters"]), ("audit", []), ("no name", ["ended"])])
def test_what_is_no_subscription_is_refused(journal: Journal, name: str, kinds: list[str]) -> None:
    with pytest.raises(PostroomError, match="cannot have entries"):
        journal.subscribe(name, kinds)


def test_what_all_have_acknowledged_is_removed(room: Room, journal: Journal) -> None:
    for name in ("fast", "slow"):
        journal.subscribe(name, ["ended"])
    for _ in range(3):
        room.take()
        room.send()

    fast, slow = entries(journal, "fast"), entries(journal, "slow")
    journal.acknowledge("fast", [entry.id for entry in fast])
    assert room.redis.xlen(f"{PREFIX}journal") == 3
    journal.acknowledge("slow", [slow[0].id, slow[2].id])
    assert room.redis.xlen(f"{PREFIX}journal") == 2
    journal.acknowledge("slow", [slow[1].id])
    assert room.redis.xlen(f"{PREFIX}journal") == 0


def test_a_tick_removes_what_only_a_consumer_that_left_had_not_read(room: Room, journal: Journal) -> None:
    for name in ("reads", "leaves"):
        journal.subscribe(name, ["ended"])
    room.take()
    room.send()
    journal.acknowledge("reads", [entry.id for entry in entries(journal, "reads")])
    journal.unsubscribe("leaves")
    room.tick()

    assert room.redis.xlen(f"{PREFIX}journal") == 0
    journal.unsubscribe("reads")
    assert keys(room) == set()


def test_the_lag_of_a_consumer_is_reported(room: Room, journal: Journal) -> None:
    journal.subscribe("audit", ["ended"])
    for _ in range(3):
        room.take()
        room.send()
    entries(journal, "audit", 1)

    (lag,) = journal.lag()
    assert (lag.consumer, lag.waiting, lag.pending, lag.dropped) == ("audit", 2, 1, 0)
    assert lag.oldest


def test_a_journal_that_somebody_deleted_begins_anew(room: Room, journal: Journal) -> None:
    journal.subscribe("audit", ["ended"])
    room.redis.delete(f"{PREFIX}journal")
    room.take()
    room.send()

    assert len(entries(journal, "audit")) == 1


# Bounds


@pytest.fixture
def bounded(room: Room, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A library whose journal keeps 200 entries, or 30 kB."""
    code = scripts.CODE
    for name, value in (
        ("JOURNAL_ENTRIES = 100000", "JOURNAL_ENTRIES = 200"),
        ("CHECK_EACH = 32768", "CHECK_EACH = 1"),
    ):
        assert name in code
        code = code.replace(name, value)
    text, prefix = scripts.library(code)
    monkeypatch.setattr(scripts, "_TEXT", text)
    monkeypatch.setattr(scripts, "LIBRARY", prefix)
    yield
    room.redis.function_delete(prefix)


@pytest.mark.usefixtures("bounded")
def test_what_a_lagging_consumer_loses_is_counted_for_it_alone(room: Room, journal: Journal) -> None:
    for name in ("reads", "lags"):
        journal.subscribe(name, ["ended"])
    for _ in range(250):
        room.ledger.cancel(room.take(), now=room.now)
        journal.acknowledge("reads", [entry.id for entry in entries(journal, "reads")])

    assert room.redis.xlen(f"{PREFIX}journal") <= 200
    lags = {lag.consumer: lag for lag in journal.lag()}
    assert lags["reads"].dropped == 0
    assert lags["lags"].dropped + len(entries(journal, "lags")) == 250
    ticks = [room.ledger.tick("worker", 8, 60, now=room.now) for _ in range(4)]
    told = [event for tick in ticks for event in tick.events if event["event"] == "journal.dropped"]
    assert [event["consumer"] for event in told] == ["lags"]


@pytest.mark.usefixtures("bounded")
def test_what_was_given_and_never_acknowledged_is_counted_too_when_it_is_dropped(room: Room, journal: Journal) -> None:
    journal.subscribe("dies", ["ended"])
    for n in range(250):
        room.ledger.cancel(room.take(), now=room.now)
        if n < 50:
            entries(journal, "dies")

    (lag,) = journal.lag()
    assert lag.dropped == 100
    assert lag.pending == 0
    assert len(entries(journal, "dies")) == 150


def test_the_journal_is_bounded_in_bytes(room: Room, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    code = scripts.CODE.replace(f"JOURNAL_BYTES = {64 * 1024 * 1024}", "JOURNAL_BYTES = 40000")
    assert code != scripts.CODE
    text, prefix = scripts.library(code)
    monkeypatch.setattr(scripts, "_TEXT", text)
    monkeypatch.setattr(scripts, "LIBRARY", prefix)
    journal.subscribe("lags", ["ended"])
    for n in range(600):
        room.ledger.cancel(room.take(key=f"{n:0500}"), now=room.now)

    size = sum(
        len(name) + len(value) for _, fields in room.redis.xrange(f"{PREFIX}journal") for name, value in fields.items()
    )
    assert size <= 40000 + 32768 + 5000
    assert journal.lag()[0].dropped > 0


# The runner


CONSUMER = '''"""Counts how mails end."""

from collections import Counter

KINDS = ("ended",)
counts: Counter[str] = Counter()


def consumer(context):
    return lambda entry: counts.update([entry.fields["status"]])
'''


def context(room: Room, events: list[dict[str, Any]]) -> consumers.Context:
    def emit(event: str, **facts: Any) -> None:
        events.append({"event": event, **facts})

    return consumers.Context(Journal(room.redis, "worker:1"), CallbackStream(room.redis, "worker:1"), None, emit)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files are consumers too."""
    monkeypatch.setattr(consumers, "__path__", [*consumers.__path__, str(tmp_path)])
    return tmp_path


def test_a_consumer_is_one_file(room: Room, package: Path) -> None:
    (package / "ends.py").write_text(CONSUMER)
    assert "ends" in set(consumers.names())
    stop, events = Event(), list[dict[str, Any]]()
    thread = Thread(target=consumers.consume_for_ever, args=("ends", context(room, events), stop, 0.05))
    thread.start()
    try:
        while not room.redis.hexists(f"{PREFIX}journal:consumers", "ends"):
            time.sleep(0.01)
        for outcome in (None, None, Refused(reason="bad")):
            room.take()
            room.send(*[outcome] if outcome else [])
        from postroom.consumers import ends  # type: ignore[attr-defined]

        until = time.monotonic() + 10
        while sum(ends.counts.values()) < 3 and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        stop.set()
        thread.join()

    assert ends.counts == {"accepted": 2, "dead": 1}
    assert events == []


def age(room: Room, consumer: str, seconds: float) -> None:
    """Makes the entries that this consumer has look as if they had been given to it so long ago."""
    pending = room.redis.xpending_range(journals.JOURNAL, consumer, "-", "+", 100)
    for one in pending:
        options = {"idle": round(seconds * 1000), "retrycount": one["times_delivered"], "justid": True}
        room.redis.xclaim(journals.JOURNAL, consumer, one["consumer"], 0, [one["message_id"]], **options)


def test_what_a_consumer_refuses_is_given_again_later_and_longer(room: Room, journal: Journal) -> None:
    journal.subscribe("picky", ["ended"])
    for _ in range(2):
        room.take()
        room.send()
    events: list[dict[str, Any]] = []
    tries: list[int] = []

    def handle(entry: Entry) -> None:
        tries.append(entry.tries)
        if entry.tries < 3:
            raise ValueError("not yet")

    picky = consumers.Consumer("picky", journal, handle, "consumer.failed")
    emit = context(room, events).emit

    assert consumers.consume(picky, Event(), emit, 0.001) == 0
    assert tries == [1, 1]
    told = [(event["event"], event["consumer"], event["tries"]) for event in events]
    assert told == [("consumer.failed", "picky", 1)] * 2
    for age_s, so_far in ((0, 2), (31, 4), (31, 4), (61, 6)):
        age(room, "picky", age_s)
        consumers.consume(picky, Event(), emit, 0.001)
        assert len(tries) == so_far
    assert tries == [1, 1, 2, 2, 3, 3]
    assert room.redis.xlen(journals.JOURNAL) == 0


def test_what_a_dead_reader_had_is_given_to_another(room: Room, journal: Journal) -> None:
    journal.subscribe("audit", ["ended"])
    job_id = room.take()
    room.send()
    entries(Journal(room.redis, "dead"), "audit")
    age(room, "audit", 31)

    (entry,) = journal.retry("audit", 10)
    assert (entry.job_id, entry.tries) == (job_id, 2)
    assert journal.retry("audit", 10) == []  # it has it now


def test_a_consumer_that_is_not_wanted_here_is_unsubscribed(room: Room, package: Path) -> None:
    (package / "unwanted.py").write_text("KINDS = ('ended',)\n\n\ndef consumer(context):\n    return None\n")
    journal = Journal(room.redis, "worker:1")
    journal.subscribe("unwanted")

    consumers.consume_for_ever("unwanted", context(room, []), Event())

    assert keys(room) == set()


def test_an_entry_is_json_where_it_says_so(room: Room, journal: Journal) -> None:
    journal.subscribe("audit", ["attempt"])
    room.take()
    room.send()

    (entry,) = entries(journal, "audit")
    assert json.loads(entry.fields["attempt"]) == entry.attempt
