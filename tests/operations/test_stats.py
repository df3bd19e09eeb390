"""The figures that `postroom stats` shows, on a real server with its own clock."""

from dataclasses import replace

import redis
from redis.exceptions import ResponseError

from postroom.api.metrics import Metrics
from postroom.jobs.job import moment
from postroom.jobs.lane_limits import LaneLimits
from postroom.jobs.outcome import Answer, Refused, Throttled, Unknown
from postroom.jobs.workers import WorkerFacts
from postroom.operations import stats
from postroom.store import functions
from postroom.store.functions import PREFIX
from postroom.store.journal import Journal
from postroom.store.ledger import Ledger

from ..store.room import FREE, OTHER, SENDER, Room, mail


def real_room(connection: "redis.Redis[bytes]") -> Room:
    """A room by the server's clock."""
    room = Room(connection)
    seconds, micros = connection.time()
    room.now = seconds * 1000 + micros // 1000
    connection.delete(PREFIX + "workers", PREFIX + "lanes")
    room.quick(SENDER, OTHER)
    return room


def test_the_stats_are_those_of_the_mail_room(connection: "redis.Redis[bytes]") -> None:
    room = real_room(connection)
    for _ in range(3):
        room.take()
    room.send()
    room.send(Refused(reason="template"))
    room.send(Unknown(reason="timeout"))
    for _ in range(5):
        room.take(mail(OTHER))
    room.take(mail(OTHER, scheduled_at=room.at(3600)))
    room.send(Throttled(answer=Answer(http_status=429), wait_s=60.0), OTHER)
    room.ledger.tick("host:7", 8, 60)

    told = stats.read(connection, lanes=1)

    assert {status: n for status, n in told.jobs.items() if n} == {"accepted": 1, "dead": 1, "deferred": 3, "queued": 4}
    assert (told.in_doubt, dict(told.dead_by_reason), told.waiting_lanes) == (1, {"template": 1}, 2)
    (lane,) = told.lanes
    assert (lane.lane, lane.app, lane.ready, lane.later, lane.sending) == (OTHER, "main", 5, 1, 0)
    assert (lane.pause_reason, lane.paused_until is not None) == ("throttled", True)
    assert [(worker.name, worker.slots, worker.alive) for worker in told.workers] == [("host:7", 8, True)]
    assert told.slots == 8
    assert told.rounds_queued == len(room.rounds())
    assert told.memory is not None
    assert told.memory.used > 0


def test_workers_that_differ_or_redirect_are_counted_by_form(connection: "redis.Redis[bytes]") -> None:
    ledger = real_room(connection).ledger
    same = WorkerFacts(version="1", settings="aa", templates="bb")
    for name, facts in (("a", same), ("b", replace(same, settings="cc", redirect_all_to="test@contoso.com"))):
        ledger.tick(name, 8, 60)
        ledger.introduce(name, 8, facts)
    ledger.tick("old", 8, 60)  # of a version that does not say what it goes by

    told = stats.read(connection, lanes=0)

    assert told.forms == {
        "version": {"1": ["a", "b"]},
        "settings": {"aa": ["a"], "cc": ["b"]},
        "templates": {"bb": ["a", "b"]},
    }
    assert [worker.redirect_all_to for worker in told.workers] == [None, "test@contoso.com", None]
    lines = Metrics(connection).text().splitlines()
    assert {'postroom_worker_forms{of="settings"} 2', 'postroom_worker_forms{of="templates"} 1'} <= set(lines)
    assert "postroom_workers_redirecting 1" in lines


def test_a_credential_that_ends_soon_is_told_as_the_first_worker_that_has_it_sees_it(
    connection: "redis.Redis[bytes]",
) -> None:
    ledger = real_room(connection).ledger
    soon, later = 1_790_000_000_000, 1_790_086_400_000
    same = WorkerFacts(version="1", settings="aa", templates="bb", expiring={"default": later})
    for name, facts in (("a", same), ("b", replace(same, expiring={"default": soon, "hr": later}))):
        ledger.tick(name, 8, 60)
        ledger.introduce(name, 8, facts)

    told = stats.read(connection, lanes=0)

    assert told.expiring == {"default": moment(soon), "hr": moment(later)}
    line = f'postroom_credential_expires_timestamp_seconds{{app="default"}} {soon / 1000}'
    assert line in Metrics(connection).text().splitlines()


def test_the_oldest_due_job_counts_from_when_it_was_due(connection: "redis.Redis[bytes]") -> None:
    room = real_room(connection)
    room.now -= 3_600_000
    old = room.take(mail(scheduled_at=room.at(3000)))
    room.jump(1)
    room.take(mail(OTHER, scheduled_at=room.at(9000)))
    due = stats.read(connection, lanes=5).oldest_due_s

    assert due is not None
    assert 500 <= due <= 1500
    room.ledger.cancel(old)
    assert stats.read(connection, lanes=5).oldest_due_s is None


def test_a_worker_that_is_silent_is_not_alive(connection: "redis.Redis[bytes]") -> None:
    room = real_room(connection)
    room.ledger.tick("here:1", 8, 60, now=room.now - 20_000)
    assert stats.alive(connection) == []
    assert stats.read(connection, lanes=0).workers[0].alive is False

    room.ledger.tick("there:1", 4, 60)

    assert [worker.name for worker in stats.alive(connection)] == ["there:1"]
    assert stats.alive(connection, "here") == []
    assert [worker.slots for worker in stats.alive(connection, "there")] == [4]


def test_many_lanes_are_read_in_pages(connection: "redis.Redis[bytes]") -> None:
    room = real_room(connection)
    limits = LaneLimits(app="main", parallel=4, daily_recipients=1000, rates=())
    assert limits == FREE
    for number in range(450):
        room.take(mail(f"s{number}@contoso.com"))
    room.take(mail("s449@contoso.com"))

    told = stats.read(connection, lanes=3)

    assert (told.waiting_lanes, [lane.ready for lane in told.lanes]) == (450, [2, 1, 1])
    assert told.lanes[0].lane == "s449@contoso.com"
    assert sum(len(functions.run(connection, "backlog", None, first, 200)) for first in (0, 200, 400)) == 450


def test_a_redis_that_hides_its_memory_use_is_no_fault(connection: "redis.Redis[bytes]") -> None:
    class Silent:
        def __getattr__(self, name: str) -> object:
            return getattr(connection, name)

        def info(self, section: str) -> None:
            raise ResponseError("NOPERM this user has no permissions to run the 'info' command")

    assert stats.read(Silent(), lanes=1).memory is None
    assert Ledger(connection).records.payload("nobody") is None


def test_what_a_consumer_of_the_journal_has_not_read_is_in_the_stats(connection: "redis.Redis[bytes]") -> None:
    room = real_room(connection)
    Journal(connection, "reader").subscribe("reports")
    room.take()
    room.send()

    (lag,) = stats.read(connection, lanes=0).journal

    assert (lag.consumer, lag.waiting, lag.dropped) == ("reports", 2, 0)
