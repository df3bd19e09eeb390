"""Every form of a Redis URL leads our client and Celery to the same place, or fails in bounded time."""

import re
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import celery
import hiredis
import pytest
import redis
from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from postroom import Client, Mail
from postroom.errors import Unavailable
from postroom.store import embedded
from postroom.store.connection import Redis, celery_urls, connect, result_backend, weaknesses
from postroom.store.intake import PORTION
from postroom.store.ledger import Ledger

from ..scripted_servers import Peer, Server, Servers, all_servers, serve

__all__ = ["all_servers", "serve"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def running(folder: Path, port: int, *arguments: str, password: str | None = None) -> Iterator[None]:
    """The server's binary, until the end of the block."""
    process = subprocess.Popen(
        [embedded._binary(), *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with redis.Redis(port=port, password=password, retry=None) as client:
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


def test_a_unix_socket_with_a_database_and_a_login(folder: Path) -> None:
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


def test_an_embedded_server_in_a_folder_with_an_odd_name(folder: Path) -> None:
    odd = folder / "a b%41#?;"
    try:
        assert works(f"embedded:{odd}")
    finally:
        embedded.stop(odd)
    assert (odd / "redis.log").exists()


@pytest.mark.parametrize("where", ["/5", "?db=5", "/5?db=5", "/?db=5"])
def test_a_tcp_port_and_a_database(folder: Path, where: str) -> None:
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


def test_tls_with_a_ca_of_ones_own(tls: Server, serve: Servers, connection: "redis.Redis[bytes]") -> None:
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


def test_tls_may_be_told_to_trust_anybody(tls: Server) -> None:
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
def test_who_is_not_there_is_named(url: str, said: str) -> None:
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
        mail = Mail(sender="a@x.de", to=["b@x.de"], text="t")
        client.send_many([mail], "before")
        client.send(mail)
        leads_to.append(new)
        with redis.Redis(port=old, retry=None) as server:
            server.replicaof("127.0.0.1", new)  # type: ignore[no-untyped-call]

        assert client.send_many([mail], "after").taken == 1
        client.send(mail)


@contextmanager
def forwarded(port: Callable[[], int]) -> Iterator[int]:
    """A port that leads to the one of the moment, for each new connection."""
    sockets: list[socket.socket] = []

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(50) as threads:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    here, there = listener.accept()[0], socket.create_connection(("127.0.0.1", port()))
                    sockets.extend((here, there))
                    threads.submit(pass_on, here, there)
                    threads.submit(pass_on, there, here)

        threads.submit(accept)
        try:
            yield int(listener.getsockname()[1])
        finally:
            for sock in (listener, *sockets):
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            for sock in sockets:
                sock.close()


@pytest.mark.parametrize("login", ["", ":wrong@"])
def test_a_password_that_is_wrong_or_missing_is_told_as_such(folder: Path, login: str) -> None:
    port = free_port()
    arguments = ("--port", str(port), "--save", "", "--requirepass", "right")
    with (
        running(folder, port, *arguments, password="right"),
        pytest.raises(Unavailable, match="refused the name or password"),
    ):
        Client(Ledger(connect(f"redis://{login}127.0.0.1:{port}", timeout_s=3, name="test"))).status("id")


@pytest.fixture
def client(folder: Path) -> "Iterator[Redis]":
    client = connect(f"embedded:{folder}/r", timeout_s=3, name="test-calls")
    client.function_load(
        "#!lua name=t\nredis.register_function('echo', function(_, arguments) return arguments end)", replace=True
    )
    yield client
    client.close()
    embedded.stop(folder / "r")


def ours(client: "redis.Redis") -> set[str]:
    return {found["id"] for found in client.client_list() if found["name"] == "test-calls"}


def test_a_call_uses_the_connection_that_the_last_one_gave_back(client: Redis) -> None:
    client.fcall("echo", 0, "a")
    before = ours(client)

    assert [client.fcall("echo", 0, n) for n in "bcd"] == [[b"b"], [b"c"], [b"d"]]
    assert ours(client) == before


def test_an_answer_may_come_in_pieces_and_nobody_waits_for_the_rest() -> None:
    asked = threading.Semaphore(0)

    def answer_all_else(peer: socket.socket) -> None:
        reader = hiredis.Reader()
        while data := peer.recv(65536):
            reader.feed(data)
            while command := reader.gets():
                if command[0] == b"FCALL":
                    asked.release()
                else:
                    peer.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n" if command[0] == b"HELLO" else b"+OK\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(2) as threads:
        client = connect(f"redis://127.0.0.1:{server.getsockname()[1]}", timeout_s=5, name="test")
        first = threads.submit(client.fcall, "echo", 0)
        with server.accept()[0] as peer:
            threads.submit(answer_all_else, peer)
            assert asked.acquire(timeout=10)
            peer.sendall(b"$5\r\nfirst\r\n")
            assert first.result(10) == b"first"
            call = client.send_fcall("echo", 0)
            assert call
            for piece in (b"*2\r\n$3\r\nab", b"c\r\n"):
                peer.sendall(piece)
                assert select.select([call.fd], [], [], 10)[0]
                with pytest.raises(BlockingIOError):
                    call.read()

            peer.sendall(b"$1\r\nd\r\n")
            assert select.select([call.fd], [], [], 10)[0]
            assert call.read() == [b"abc", b"d"]

            client.close()
            peer.shutdown(socket.SHUT_RDWR)


def test_a_call_on_a_connection_that_died_meanwhile_is_made_again(client: Redis) -> None:
    client.fcall("echo", 0, "a")
    for found in ours(client):
        client.client_kill_filter(_id=found, skipme=False)

    assert client.fcall("echo", 0, "b") == [b"b"]


def test_a_call_that_redis_refuses_leaves_the_connection_whole(client: Redis) -> None:
    with pytest.raises(redis.ResponseError, match="Function not found"):
        client.fcall("nothing", 0)

    assert client.fcall("echo", 0, "b") == [b"b"]


def test_a_call_that_was_sent_is_read_when_its_answer_is_there(client: Redis) -> None:
    client.fcall("echo", 0, "a")
    before = ours(client)

    asked = client.send_fcall("echo", 0, "b")

    assert asked
    assert select.select([asked.fd], [], [], 10)[0]
    assert asked.read() == [b"b"]
    assert client.fcall("echo", 0, "c") == [b"c"]
    assert ours(client) == before


def test_nothing_is_sent_where_a_connection_must_be_made_for_it(client: Redis) -> None:
    assert client.send_fcall("echo", 0, "a") is None
    client.fcall("echo", 0, "a")
    (asked := client.send_fcall("echo", 0, "b")) and asked.give_up()

    assert client.send_fcall("echo", 0, "c") is None
    assert client.fcall("echo", 0, "d") == [b"d"]


def test_an_answer_that_breaks_off_says_so_and_the_next_call_has_another_connection(client: Redis) -> None:
    client.fcall("echo", 0, "a")
    asked = client.send_fcall("echo", 0, "b")
    assert asked
    assert select.select([asked.fd], [], [], 10)[0]
    asked.connection._sock.shutdown(socket.SHUT_RDWR)
    while asked.connection._sock.recv(100):
        pass

    with pytest.raises(redis.exceptions.ConnectionError):
        asked.read()

    assert client.fcall("echo", 0, "c") == [b"c"]


def test_calls_from_many_threads_get_their_own_answers(client: Redis) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda n: client.fcall("echo", 0, n), range(400))) == [
            [str(n).encode()] for n in range(400)
        ]


FORKING = """
import os, sys
from postroom.store.connection import connect

client = connect(sys.argv[1], timeout_s=3, name="test-calls")
client.fcall("echo", 0, "parent")
if os.fork() == 0:
    client.fcall("echo", 0, "child")
    print(len([found for found in client.client_list() if found["name"] == "test-calls"]), flush=True)
    os._exit(0)
os.wait()
assert client.fcall("echo", 0, "parent") == [b"parent"]
"""


def test_a_forked_process_calls_over_a_connection_of_its_own(client: Redis, folder: Path) -> None:
    client.connection_pool.disconnect()

    said = subprocess.run(
        [sys.executable, "-c", FORKING, f"embedded:{folder}/r"], capture_output=True, text=True, timeout=30, check=True
    )

    assert int(said.stdout) >= 2
