"""Every form of a Redis URL leads our client and Celery to the same place, or fails in bounded time."""

import re
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import celery
import pytest
import redis
from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from postroom import Client, Mail
from postroom.errors import Unavailable
from postroom.store import embedded
from postroom.store.celery_urls import celery_urls, result_backend
from postroom.store.connection import connect
from postroom.store.durability import weaknesses
from postroom.store.intake import PORTION
from postroom.store.ledger import Ledger

from ..scripted_servers import Peer, Server, Servers, all_servers, serve
from .redis_servers import free_port, running

__all__ = ["all_servers", "serve"]


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


def test_a_url_may_name_a_unix_socket(server: str) -> None:
    assert works(server)


def test_a_url_may_name_a_unix_socket_with_a_database_and_a_login(folder: Path) -> None:
    with running(folder, port := free_port(), "--port", str(port), "--save", "", "--unixsocket", str(folder / "a b?")):
        with redis.Redis(port=port) as client:
            client.acl_setuser(
                "us@er", enabled=True, passwords=["+p:w/"], keys=["*"], channels=["*"], commands=["+@all"]
            )
        url = f"unix://us%40er:p%3Aw%2F@{folder}/a%20b%3F?db=2"
        assert works(url)
        assert keyspaces(port) == {"db2"}
        with pytest.raises(redis.exceptions.AuthenticationError):
            connect(url.replace("p%3Aw", "x"), timeout_s=2, name="test").ping()


def test_an_embedded_server_starts_when_it_is_named(folder: Path) -> None:
    try:
        assert works(f"embedded:{folder}")
    finally:
        embedded.stop(folder)


def test_an_embedded_server_may_lie_in_a_folder_with_an_odd_name(folder: Path) -> None:
    odd = folder / "a b%41#?;"
    try:
        assert works(f"embedded:{odd}")
    finally:
        embedded.stop(odd)
    assert (odd / "redis.log").exists()


@pytest.mark.parametrize("where", ["/5", "?db=5", "/5?db=5", "/?db=5"])
def test_a_url_may_name_a_tcp_port_and_a_database(folder: Path, where: str) -> None:
    port = free_port()
    with running(folder, port, "--port", str(port), "--save", ""):
        assert works(f"redis://127.0.0.1:{port}{where}")
        assert keyspaces(port) == {"db5"}


def keyspaces(port: int) -> set[str]:
    with redis.Redis(port=port) as client:
        return set(client.info("keyspace"))


@pytest.fixture
def tls(serve: Servers, server: str) -> Server:
    """TLS before the server of this test process."""

    def relay(peer: Peer) -> None:
        with socket.socket(socket.AF_UNIX) as behind:
            behind.connect(server.removeprefix("unix://"))
            while True:
                pending = isinstance(peer.sock, ssl.SSLSocket) and peer.sock.pending()
                ready = [peer.sock] if pending else select.select([peer.sock, behind], [], [], 10)[0]
                for one, other in ((peer.sock, behind), (behind, peer.sock)):
                    if one in ready:
                        if not (data := one.recv(65536)):
                            return
                        other.sendall(data)

    return serve(relay)


def test_a_url_may_name_a_ca_for_tls(tls: Server, serve: Servers, connection: "redis.Redis[bytes]") -> None:
    assert works(f"rediss://127.0.0.1:{tls.port}?db=3&ssl_ca_certs={serve.ca}")
    assert set(connection.info("keyspace")) == {"db3"}


@pytest.mark.parametrize("parameter", ["", "?ssl_cert_reqs=required", "?ssl_cert_reqs=CERT_REQUIRED"])
def test_over_tls_nobody_is_trusted_by_default(tls: Server, parameter: str) -> None:
    url = f"rediss://127.0.0.1:{tls.port}/0{parameter}"
    with pytest.raises(redis.exceptions.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(url, timeout_s=2, name="test").ping()
    urls = celery_urls(url)
    app = celery.Celery(broker=urls.broker, backend=urls.backend)
    with app.connection_for_write() as one, pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        one.default_channel.client.ping()
    with pytest.raises(redis.exceptions.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        app.backend.client.ping()
    app.close()


def test_a_url_may_say_that_tls_trusts_any_certificate(tls: Server) -> None:
    assert works(f"rediss://127.0.0.1:{tls.port}/4?ssl_cert_reqs=none&ssl_check_hostname=False")


@pytest.mark.parametrize(
    ("here", "results"),
    [
        ("redis://redis", "redis://redis:6379/0"),
        ("redis://:p%2Fw@redis/3", "redis://:p%2Fw@REDIS?db=3"),
        ("rediss://redis/1", "rediss://redis:6379/1?ssl_cert_reqs=CERT_REQUIRED"),
        ("unix:///run/r.sock?db=2", "redis+socket:///run/r.sock?virtual_host=2"),
        ("redis+sentinel://one,two/post/2", "redis+sentinel://one:26379,two/post?db=2"),
        ("redis://redis", None),
    ],
)
def test_results_that_go_where_the_jobs_are_are_known_in_any_spelling(here: str, results: str | None) -> None:
    urls = celery_urls(here)

    assert result_backend(results, urls) == urls.backend


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ("db+sqlite:///results.db", "db+sqlite:///results.db"),
        ("redis://redis/1", "redis://redis:6379/1"),
        ("rediss://other", "rediss://other:6379/0?ssl_cert_reqs=required"),
        ("redis://redis/1?socket_keepalive=yes", "redis://redis/1?socket_keepalive=yes"),
    ],
)
def test_results_that_go_elsewhere_keep_their_own_place(results: str, expected: str) -> None:
    assert result_backend(results, celery_urls("redis://redis")) == expected


def test_a_sentinel_names_the_master(sentinel: str) -> None:
    assert works(sentinel)
    client = connect(sentinel, timeout_s=2, name="postroom-test")
    assert client.connection_pool.connection_kwargs["db"] == 3
    client.close()


def test_a_sentinel_url_with_a_login_and_several_hosts_reads_as_celery_writes_it() -> None:
    urls = celery_urls("redis+sentinel://us%40er:p%3Aw@one:1,two/post?db=2")

    assert urls.broker == urls.backend == "sentinel://us%40er:p%3Aw@one:1/2;sentinel://us%40er:p%3Aw@two:26379/2"
    assert urls.options == {"master_name": "post", "sentinel_kwargs": {"password": "p:w"}}


def a_mail() -> Mail:
    return Mail(sender="post@contoso.com", to="ann@contoso.com", text="x")


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.status("id"),
        lambda client: client.send(a_mail()),
        lambda client: client.send_many([a_mail() for _ in range(3 * PORTION)], "batch"),
    ],
    ids=["status", "send", "send_many"],
)
@pytest.mark.parametrize(
    ("scheme", "tries"), [("redis://127.0.0.1:{}/0", 2), ("redis+sentinel://127.0.0.1:{}/post", 2)]
)
def test_a_server_that_accepts_and_never_answers_is_tried_twice(
    scheme: str, tries: int, ask: Callable[[Client], object]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        connection = connect(scheme.format(hole.getsockname()[1]), timeout_s=0.3, name="test")

        with pytest.raises(Unavailable, match="imeout"):
            ask(Client(Ledger(connection)))

        hole.setblocking(False)
        tried = 0
        with suppress(BlockingIOError):
            while peer := hole.accept()[0]:
                peer.close()
                tried += 1
        assert tried == 2
        connection.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1:1", "connecting to 127.0.0.1:1. Connection refused"),
        ("unix:///no/such/socket", "connecting to /no/such/socket. No such file"),
    ],
)
def test_a_server_that_is_not_there_is_named(url: str, said: str) -> None:
    with pytest.raises(Unavailable, match=re.escape(said)):
        Client(Ledger(connect(url, timeout_s=0.3, name="test"))).status("id")


@pytest.mark.parametrize(
    ("arguments", "weak"),
    [
        ("--appendonly yes --appendfsync always", []),
        ("--appendonly yes --maxmemory-policy allkeys-lru", ["appendfsync everysec", "maxmemory-policy allkeys-lru"]),
        ("--rename-command CONFIG OTHER", ["Redis does not tell its settings"]),
        ("", ["appendonly no"]),
    ],
)
def test_settings_of_redis_that_would_lose_mail_are_named(folder: Path, arguments: str, weak: list[str]) -> None:
    port = free_port()
    with running(folder, port, "--port", str(port), "--save", "", *arguments.split()):
        found = weaknesses(connect(f"redis://127.0.0.1:{port}", timeout_s=3, name="test"))

    assert [words in one for words, one in zip(weak, found, strict=True)] == [True] * len(weak)


@pytest.mark.parametrize("login", ["", ":wrong@"])
def test_a_wrong_or_missing_password_is_named_as_the_reason(folder: Path, login: str) -> None:
    port = free_port()
    arguments = ("--port", str(port), "--save", "", "--requirepass", "right")
    with (
        running(folder, port, *arguments, password="right"),
        pytest.raises(Unavailable, match="refused the name or password"),
    ):
        Client(Ledger(connect(f"redis://{login}127.0.0.1:{port}", timeout_s=3, name="test"))).status("id")
