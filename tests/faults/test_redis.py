"""Redis is cut off, stands still, is killed or is full while mail is sent: workers go on by themselves."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import redis
from celery import Celery

from postroom import Client, Status, Unavailable
from postroom.store.connection import connect
from postroom.store.ledger import Ledger

from ..acceptance.conftest import Room, a_mail, start_redis, until
from .proxy import Proxy, proxied

OpenRoom = Callable[..., Room]
LEASE_S = 4
SETTINGS = {"POSTROOM_RATE": "off", "SHORT_LEASE": f"{LEASE_S}"}


@pytest.fixture
def busy(open_room: OpenRoom) -> Room:
    """A room whose mails take long enough for a fault to meet several of them at any time."""
    return open_room(SETTINGS, latency=0.1)


@pytest.fixture
def proxy(busy: Room) -> Iterator[Proxy]:
    with proxied(busy.folder / "redis.sock") as found:
        yield found


def test_connections_that_are_cut_again_and_again_lose_and_double_nothing(busy: Room, proxy: Proxy) -> None:
    jobs = backlog(busy, 60)
    two_workers(busy, POSTROOM_REDIS_URL=proxy.url)

    for sent in range(5, 60, 5):
        until(lambda sent=sent: arrived(busy) >= sent, "more mails to be sent")
        proxy.cut()

    assert_each_was_sent_once(busy, jobs)


def test_answers_that_are_lost_on_the_way_lose_and_double_nothing(busy: Room, proxy: Proxy) -> None:
    jobs = backlog(busy, 40)
    two_workers(busy, POSTROOM_REDIS_URL=proxy.url)

    for sent in (5, 20):
        until(lambda sent=sent: arrived(busy) >= sent, "more mails to be sent")
        before = commands(busy)
        proxy.lose_answers()
        until(lambda before=before: commands(busy) > before + 4, "some commands whose answers are lost")
        proxy.resume()

    assert_each_was_sent_once(busy, jobs)


def test_a_network_that_swallows_packets_costs_a_producer_bounded_time_and_a_worker_goes_on(
    busy: Room, proxy: Proxy
) -> None:
    door = Client(Ledger(connect(proxy.url, timeout_s=0.5, name="test")))
    kept = door.send(a_mail(), key="before").id
    jobs = [*backlog(busy, 20), kept]
    busy.start_worker_process(app="tests.faults.halting", POSTROOM_REDIS_URL=proxy.url)
    until(lambda: arrived(busy) >= 5, "some mails to be sent")

    proxy.hold()
    with pytest.raises(Unavailable, match="did not answer"):
        door.send(a_mail(subject="Held"), key="held")
    proxy.resume()

    jobs.append(door.send(a_mail(subject="Held"), key="held").id)  # the first one may have come through: it is one job
    assert_each_was_sent_once(busy, jobs)


def test_a_redis_killed_again_and_again_under_load_loses_and_doubles_nothing(busy: Room) -> None:
    jobs = backlog(busy, 60)
    two_workers(busy)

    for sent in (5, 20, 35):
        until(lambda sent=sent: arrived(busy) >= sent, "more mails to be sent")
        kill_redis(busy)

    assert_each_was_sent_once(busy, jobs)


def test_a_redis_that_stands_still_for_longer_than_the_lease_takes_no_claim_from_anybody(busy: Room) -> None:
    jobs = backlog(busy, 40)
    two_workers(busy)
    until(lambda: arrived(busy) >= 5, "some mails to be sent")

    busy.redis.client_pause((LEASE_S + 1) * 1000)
    with redis.Redis.from_url(busy.redis_url, socket_timeout=60) as patient:
        patient.ping()

    assert_each_was_sent_once(busy, jobs)
    assert "worker_lost" not in busy.raw_log()


def test_a_full_redis_takes_nothing_in_and_sends_what_it_has_once_there_is_room(busy: Room) -> None:
    client, jobs = busy.client(), backlog(busy, 200)
    two_workers(busy)
    until(lambda: arrived(busy) >= 5, "some mails to be sent")

    busy.redis.config_set("maxmemory", 1)
    with pytest.raises(Unavailable, match="full"):
        client.send(a_mail(subject="Too much"), key="too much")
    until(lambda: "OutOfMemoryError" in busy.raw_log(), "a worker to meet it")
    busy.redis.config_set("maxmemory", 0)
    let_half_a_minute_pass_for_lost_rounds(busy)

    jobs.append(client.send(a_mail(subject="Too much"), key="too much").id)
    assert_each_was_sent_once(busy, jobs)
    assert "Traceback" not in busy.raw_log()


def replicate_nobody(room: Room) -> None:
    room.redis.replicaof("127.0.0.1", "1")


def take_rights(room: Room) -> None:
    room.redis.execute_command("ACL", "SETUSER", "postroom", "-@write")


@pytest.mark.world
@pytest.mark.parametrize("refuse", [replicate_nobody, take_rights])
def test_a_worker_ends_on_a_signal_while_redis_refuses_and_logs_what_it_could_not_record(
    busy: Room, refuse: Callable[[Room], None]
) -> None:
    backlog(busy, 200)
    worker = busy.start_worker_process()
    until(lambda: arrived(busy) >= 5, "some mails to be sent")

    refuse(busy)
    until(lambda: "Redis refused" in busy.raw_log(), "the refusal to be logged")

    assert busy.end(worker) == 0
    assert any(line["event"] == "mail.unrecorded" and line["http_status"] == 202 for line in busy.log())
    assert "Traceback" not in busy.raw_log()


def test_a_worker_looks_for_redis_for_as_long_as_it_takes(busy: Room) -> None:
    """As Celery does it, and with the worker's own setting: its default gives up after 100 times."""
    script = "from postroom.tasks import app; print(app.conf.broker_connection_max_retries)"
    said = subprocess.run(
        [sys.executable, "-c", script], env=busy.environment, capture_output=True, text=True, check=True
    )
    most = None if said.stdout.strip() == "None" else int(said.stdout)
    tries: list[object] = []

    def failed(*_: object) -> None:
        tries.append(None)
        if len(tries) == 250:
            raise KeyboardInterrupt

    with Celery(broker="redis://127.0.0.1:1").connection_for_read() as connection, pytest.raises(KeyboardInterrupt):
        connection.ensure_connection(failed, most, interval_start=0, interval_step=0)


def two_workers(room: Room, **settings: str) -> None:
    for _ in range(2):
        room.start_worker_process(app="tests.faults.halting", **settings)


def backlog(room: Room, count: int) -> list[str]:
    """Mails of ten mailboxes, taken in past the fault."""
    client = room.client()
    return [client.send(a_mail(**{"from": f"m{n % 10}@contoso.com"})).id for n in range(count)]


def arrived(room: Room) -> int:
    return int(room.sandbox.stats()["accepted"])


def commands(room: Room) -> int:
    return int(room.redis.info("stats")["total_commands_processed"])


def kill_redis(room: Room) -> None:
    """SIGKILL, and a new server over the same append-only file."""
    os.kill(room.redis.info("server")["process_id"], signal.SIGKILL)
    start_redis(room.folder)


def let_half_a_minute_pass_for_lost_rounds(room: Room) -> None:
    """Celery loses a message that it cannot note as taken; the ledger asks for another only after this time."""
    for lane in room.redis.zrange("{postroom}:lanes", 0, -1):
        room.redis.hset(f"{{postroom}}:lane:{lane.decode()}", "asked_at", 0)
        room.redis.zadd("{postroom}:lanes", {lane: 0})


def assert_each_was_sent_once(room: Room, jobs: list[str]) -> None:
    """By the sandbox's record; and the ledger knows of no doubt."""
    ends = [room.settled(job) for job in jobs]
    sent = Counter(request.job for request in room.sandbox.requests(accepted=True))
    assert Counter(sent) == Counter(jobs)
    assert {(end.status, *(attempt.outcome for attempt in end.attempts[-1:])) for end in ends} == {
        (Status.ACCEPTED, "accepted")
    }
    assert not [attempt for end in ends for attempt in end.attempts if attempt.outcome == "unknown"]
