"""What the workers go by, and that differences are noticed."""

from typing import Any

import pytest
import redis

from postroom.jobs.workers import WorkerFacts
from postroom.store.functions import PREFIX
from postroom.store.ledger import Ledger

from .room import Room, mail

FACTS = WorkerFacts(version="1", settings="aa", templates="bb", names=("welcome",))


@pytest.fixture
def room(connection: "redis.Redis[bytes]") -> Room:
    return Room(connection)


def introduce(room: Room, worker: str, **changes: Any) -> None:
    facts = {name: getattr(FACTS, name) for name in FACTS.__slots__} | changes
    room.ledger.introduce(worker, 8, WorkerFacts(**facts), now=room.now)


def told(room: Room) -> list[object]:
    """What the next ticks would log."""
    return [event["facts"] for event in room.ledger.tick("host:1", 8, 60, now=room.now).events]


def test_workers_that_go_by_the_same_are_nothing_to_tell(room: Room) -> None:
    introduce(room, "host:1")
    introduce(room, "host:2", version="2")
    assert told(room) == []
    assert room.ledger.records.workers_facts().keys() == {"host:1", "host:2"}


def test_a_difference_is_told_once_and_again_when_it_has_come_back(room: Room) -> None:
    introduce(room, "host:1")
    introduce(room, "host:2", settings="other")
    introduce(room, "host:3", settings="other")
    introduce(room, "host:2", settings="other")
    assert told(room) == ["settings"]

    introduce(room, "host:2", settings="other", templates="other")
    assert told(room) == ["settings templates"]

    introduce(room, "host:2")
    introduce(room, "host:3")
    assert told(room) == []
    introduce(room, "host:3", templates="other")
    assert told(room) == ["templates"]


def test_what_a_worker_went_by_goes_with_it(room: Room) -> None:
    introduce(room, "host:1")
    introduce(room, "host:2", templates="other", names=("welcome", "invoice"))
    assert told(room) == ["templates"]
    assert room.ledger.records.has_template("invoice")

    room.jump(16)

    assert told(room) == []
    assert room.ledger.records.workers_facts().keys() == {"host:1"}
    assert not room.ledger.records.has_template("invoice")
    assert room.ledger.records.has_template("welcome")
    assert room.redis.get(PREFIX + "workers:differ") == b""


def test_the_facts_of_a_worker_that_an_older_version_has_forgotten_go_too(room: Room) -> None:
    introduce(room, "host:1")
    introduce(room, "host:2", names=("invoice",))
    room.redis.hdel(PREFIX + "workers", "host:2")

    room.tick()

    assert not room.ledger.records.has_template("invoice")


def test_facts_of_a_newer_version_are_read_as_far_as_they_are_known(room: Room) -> None:
    text = FACTS.to_json().replace('"version"', '"hologram": 1, "version"')
    assert WorkerFacts.from_json(text) == FACTS


def test_an_attempt_names_its_worker_and_where_it_went_instead(room: Room) -> None:
    room.ledger = Ledger(room.redis, signature={"worker": "host:7", "redirected_to": "test@contoso.com"})
    job = room.take(mail())
    room.send()

    (attempt,) = room.read(job).attempts

    assert (attempt.worker, attempt.redirected_to) == ("host:7", "test@contoso.com")


def test_a_credential_that_ends_soon_is_told_once_a_day_by_whichever_worker(room: Room) -> None:
    day = 86_400_000
    ends = {"default": room.now + 12 * day + 1}
    introduce(room, "host:1", expiring=ends)
    introduce(room, "host:2", expiring=ends)
    (event,) = room.ledger.tick("host:1", 8, 60, now=room.now).events
    assert dict(event) == {"event": "credential.expiring", "app": "default", "days": 12}

    room.now += day - 1
    introduce(room, "host:1", expiring=ends)
    assert room.ledger.tick("host:1", 8, 60, now=room.now).events == ()
    room.now += 1
    introduce(room, "host:2", expiring=ends)
    (event,) = room.ledger.tick("host:1", 8, 60, now=room.now).events
    assert event["days"] == 11
