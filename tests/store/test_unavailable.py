"""A Redis that is away, frozen, full or a replica is reported in bounded time, and no mail is lost or doubled."""

import os
import signal
import socket
from dataclasses import replace

import pytest
import redis

from postroom.errors import Unavailable
from postroom.jobs.job import Receipt
from postroom.store.connection import connect
from postroom.store.ledger import Ledger

from .room import BUSY, FREE, SENDER, Room, mail


def test_a_closed_port_is_unavailable(free_port: int) -> None:
    ledger = Ledger(connect(f"redis://127.0.0.1:{free_port}/0", timeout_s=0.3, name="test"))

    with pytest.raises(Unavailable):
        ledger.take_in("id", mail(), None, None)
    with pytest.raises(Unavailable):
        ledger.records.read("id")


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_a_frozen_server_is_unavailable_in_bounded_time_and_what_came_through_is_one_job(own_server: str) -> None:
    client = connect(own_server, timeout_s=0.3, name="test")
    ledger = Ledger(client)
    ledger.take_in("first", mail(), None, None)
    pid = int(client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            ledger.take_in("id", mail(), "k", None)
    finally:
        os.kill(pid, signal.SIGCONT)

    assert ledger.take_in("id", mail(), "k", None) == Receipt(id="id", known=False)
    client.close()


def test_a_full_redis_takes_nothing_in_and_leaves_no_trace_but_what_it_holds_can_be_sent(own_server: str) -> None:
    with redis.Redis.from_url(own_server) as client:
        room = Room(client)
        room.publish(lanes={SENDER: replace(FREE, rates=((30, 60),))})
        first, _ = room.take(key="a"), room.take(key="b")
        before = {key: client.dump(key) for key in client.scan_iter()}
        client.config_set("maxmemory", "1mb")

        with pytest.raises(Unavailable, match="full"):
            room.take(mail(html="x" * 10_000), key="c", batch="news")
        assert {key: client.dump(key) for key in client.scan_iter()} == before

        assert room.send() == first
        room.tick(5)
        assert room.read(room.send(BUSY)).status == "deferred"
        client.config_set("maxmemory", "0")
        assert room.take(key="c")


def test_a_replica_that_takes_no_writes_is_unavailable(own_server: str, free_port: int) -> None:
    with redis.Redis.from_url(own_server) as client:
        client.replicaof("127.0.0.1", free_port)
        with pytest.raises(Unavailable):
            Ledger(client).take_in("id", mail(), None, None)
        client.replicaof("no", "one")
