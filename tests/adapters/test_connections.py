"""Every form of a Redis URL leads our client and Celery to the same place, or fails in bounded time."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import celery
import pytest
import redis
from celery.result import AsyncResult

from postroom import embedded
from postroom.connections import celery_urls, connect
from postroom.errors import Unavailable
from postroom.ledger import Ledger


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def running(folder: Path, port: int, *arguments: str) -> Iterator[None]:
    """The server's binary, until the end of the block."""
    process = subprocess.Popen(
        [embedded._binary(), *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with redis.Redis(port=port, retry=None) as client:
            wait_for(client)
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def sentinel(folder: Path) -> Iterator[str]:
    """The URL of a Sentinel that watches one master."""
    master, watcher = free_port(), free_port()
    (folder / "sentinel.conf").write_text(f"port {watcher}\nsentinel monitor post 127.0.0.1 {master} 1\n")
    with (
        running(folder, master, "--port", str(master), "--save", ""),
        running(folder, watcher, "sentinel.conf", "--sentinel"),
    ):
        yield f"redis+sentinel://127.0.0.1:{watcher}/post/3"


def wait_for(client: "redis.Redis[bytes]") -> None:
    until = time.monotonic() + 10
    while True:
        try:
            client.ping()
        except redis.exceptions.ConnectionError:
            assert time.monotonic() < until
            time.sleep(0.02)
        else:
            return


def works(url: str) -> bool:
    """Whether the same place answers our client and carries a message of Celery's there and back."""
    client = connect(url, timeout_s=2, name="postroom-test")
    assert client.ping()
    assert client.client_getname() == "postroom-test"
    urls = celery_urls(url)
    app = celery.Celery(broker=urls.broker, backend=urls.backend)
    app.conf.update(broker_transport_options=urls.options, result_backend_transport_options=urls.options)
    with app.connection_for_write() as connection, connection.SimpleQueue("test") as queue:
        queue.put({"hello": "there"})
        assert client.llen("test") == 1
        message = queue.get(timeout=3)
        message.ack()
    client.set("celery-task-meta-task", '{"status": "SUCCESS", "result": 7}')
    result = AsyncResult("task", app=app).result
    app.backend.client.connection_pool.disconnect()
    app.close()
    client.close()
    return bool(message.payload == {"hello": "there"} and result == 7)


def test_a_unix_socket(server: str) -> None:
    assert works(server)


def test_an_embedded_server_starts_when_it_is_named(folder: Path) -> None:
    try:
        assert works(f"embedded:{folder}")
    finally:
        embedded.stop(folder)


def test_a_tcp_port_and_a_database(folder: Path) -> None:
    port = free_port()
    with running(folder, port, "--port", str(port), "--save", ""):
        assert works(f"redis://127.0.0.1:{port}/5")


def test_a_sentinel_names_the_master(sentinel: str) -> None:
    assert works(sentinel)
    client = connect(sentinel, timeout_s=2, name="postroom-test")
    assert client.connection_pool.connection_kwargs["db"] == 3
    client.close()


def test_a_sentinel_url_with_a_login_and_several_hosts_reads_as_celery_writes_it() -> None:
    urls = celery_urls("redis+sentinel://us%40er:p%3Aw@one:1,two/post?db=2")

    assert urls.broker == urls.backend == "sentinel://us%40er:p%3Aw@one:1/2;sentinel://us%40er:p%3Aw@two:26379/2"
    assert urls.options == {"master_name": "post", "sentinel_kwargs": {"password": "p:w"}}


@pytest.mark.parametrize("scheme", ["redis://127.0.0.1:{}/0", "redis+sentinel://127.0.0.1:{}/post"])
def test_a_server_that_accepts_and_never_answers_costs_bounded_time(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        client = connect(scheme.format(hole.getsockname()[1]), timeout_s=0.3, name="test")
        started = time.monotonic()

        with pytest.raises(Unavailable):
            Ledger(client).read("id")

        assert time.monotonic() - started < 3
        client.close()
