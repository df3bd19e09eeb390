"""Another server becomes the master: a producer goes on there by itself, within seconds, in one thread too."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis
from redis.sentinel import Sentinel

from postroom import Client, Mail, Unavailable
from postroom.store.connection import connect
from postroom.store.ledger import Ledger
from postroom.store.server_facts import server_facts

from .redis_servers import forwarded, free_port, running

MAIL = Mail(sender="post@contoso.com", to="ann@contoso.com", text="x")
# The Sentinel below takes the master for down after 0.3 s, and then needs about two seconds.
PATIENCE_S = 15


class Watched(NamedTuple):
    """A master with a replica, and the Sentinel that watches them."""

    url: str
    master: "subprocess.Popen[bytes]"
    replica: int


@pytest.fixture
def watched(folder: Path) -> Iterator[Watched]:
    master, replica, watcher = free_port(), free_port(), free_port()
    for name in ("master", "replica"):
        (folder / name).mkdir()
    (folder / "sentinel.conf").write_text(
        f"port {watcher}\nsentinel monitor post 127.0.0.1 {master} 1\n"
        "sentinel down-after-milliseconds post 300\nsentinel failover-timeout post 2000\n"
    )
    common = ("--save", "", "--repl-diskless-sync-delay", "0")
    with (
        running(folder / "master", master, "--port", str(master), *common) as process,
        running(folder / "replica", replica, "--port", str(replica), "--replicaof", f"127.0.0.1 {master}", *common),
    ):
        with redis.Redis(port=replica) as client:
            until(lambda: client.info("replication")["master_link_status"] == "up")
        with running(folder, watcher, "sentinel.conf", "--sentinel"), redis.Redis(port=watcher) as sentinel:
            until(lambda: len(sentinel.sentinel_slaves("post")) == 1)
            yield Watched(f"redis+sentinel://127.0.0.1:{watcher}/post", process, replica)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def kill(watched: Watched) -> None:
    watched.master.kill()


def freeze(watched: Watched) -> None:
    watched.master.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize("fail", [kill, freeze])
def test_a_producer_finds_the_new_master_that_sentinel_names(watched: Watched, fail: Callable[[Watched], None]) -> None:
    redis_client = connect(watched.url, timeout_s=0.5, name="test")
    client = Client(Ledger(redis_client))
    client.send(MAIL)
    client.send_many([MAIL], "before")
    fail(watched)

    def has_moved() -> bool:
        try:
            client.send(MAIL)
        except Unavailable:
            return False
        return bool(redis_client.info("server")["tcp_port"] == watched.replica)

    until(has_moved)
    assert client.send_many([MAIL], "after").taken == 1
    redis_client.close()


def test_a_master_that_is_a_replica_by_now_is_left_for_the_one_that_sentinel_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `SENTINEL FAILOVER`: nothing breaks off, and the server of before refuses to write."""
    old, new = free_port(), free_port()
    named = [old]
    monkeypatch.setattr(Sentinel, "discover_master", lambda *_: ("127.0.0.1", named[-1]))
    for name in ("old", "new"):
        (folder / name).mkdir()
    with (
        running(folder / "old", old, "--port", str(old), "--save", ""),
        running(folder / "new", new, "--port", str(new), "--save", ""),
        redis.Redis(port=old, retry=None) as server,
    ):
        client = Client(Ledger(connect("redis+sentinel://localhost/post", timeout_s=5, name="test")))
        client.send(MAIL)
        client.send_many([MAIL], "before")
        named.append(new)
        server.replicaof("127.0.0.1", new)  # type: ignore[no-untyped-call]

        client.send(MAIL)
        assert client.send_many([MAIL], "after").taken == 1


def test_a_server_that_has_become_a_replica_is_left(folder: Path) -> None:
    """Behind one address the primary changes, and the one before lives on, with all our connections to it."""
    old, new = free_port(), free_port()
    for name in ("old", "new"):
        (folder / name).mkdir()
    with (
        running(folder / "old", old, "--port", str(old), "--save", ""),
        running(folder / "new", new, "--port", str(new), "--save", ""),
        forwarded(lambda: leads_to[-1]) as port,
    ):
        leads_to = [old]
        client = Client(Ledger(connect(f"redis://127.0.0.1:{port}", timeout_s=5, name="test")))
        client.send_many([MAIL], "before")
        client.send(MAIL)
        leads_to.append(new)
        with redis.Redis(port=old, retry=None) as server:
            server.replicaof("127.0.0.1", new)  # type: ignore[no-untyped-call]

        assert client.send_many([MAIL], "after").taken == 1
        client.send(MAIL)


def test_the_facts_of_a_server_say_how_many_sentinels_answer_and_that_a_replica_is_one(watched: Watched) -> None:
    with connect(watched.url, timeout_s=5, name="test") as client:
        assert server_facts(client, watched.url).sentinels == (1, 1)
    one_is_away = watched.url.replace("/post", f",127.0.0.1:{free_port()}/post")
    with connect(one_is_away, timeout_s=5, name="test") as client:
        assert server_facts(client, one_is_away).sentinels == (2, 1)
    with redis.Redis(port=watched.replica) as replica:
        assert server_facts(replica, f"redis://127.0.0.1:{watched.replica}").role == "slave"
