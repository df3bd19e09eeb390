"""A master, a replica and three Sentinels, all over TLS and with passwords, and doors in processes of their own."""

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
import redis
import requests

from tests.acceptance.conftest import Room, until
from tests.store.redis_servers import free_port

from .redis_servers import certificates, serving, tls_settings

SERVER_PASSWORD, SENTINEL_PASSWORD = "for the server", "for the sentinels"
# redis-py leaves a socket open when its server dies in the middle of a TLS handshake.
LEAVES_SOCKETS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
WATCHER = {"username": "watcher", "password": SENTINEL_PASSWORD}


class Cluster(NamedTuple):
    """`url` is for us; `master` is a process with its own `port`, `replica` the other server's port."""

    url: str
    master: "subprocess.Popen[bytes]"
    port: int
    replica: int
    tls: dict[str, Any]

    def server(self, port: int) -> "redis.Redis[bytes]":
        """One of the two servers, whoever is the master; over one connection."""
        return redis.Redis(port=port, password=SERVER_PASSWORD, single_connection_client=True, **self.tls)


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    """A master, a replica and three Sentinels."""
    ca = certificates(folder)
    tls: dict[str, Any] = {"host": "127.0.0.1", "ssl": True, "ssl_ca_certs": str(ca), "retry": None}
    master, replica, *watchers = (free_port() for _ in range(5))

    def configured(name: str, port: int, *lines: str) -> tuple[Path, str]:
        (folder / name).mkdir()
        (folder / name / "own.conf").write_text("\n".join([*tls_settings(folder, port), *lines, ""]))
        return folder / name, "own.conf"

    login = (f'requirepass "{SERVER_PASSWORD}"', f'masterauth "{SERVER_PASSWORD}"', 'save ""', "appendonly yes")
    watch = (
        f"sentinel monitor post 127.0.0.1 {master} 2",
        f'sentinel auth-pass post "{SERVER_PASSWORD}"',
        "sentinel down-after-milliseconds post 1000",
        "sentinel failover-timeout post 5000",
        f'user watcher on ">{SENTINEL_PASSWORD}" ~* &* +@all',
        "user default off",
        "sentinel sentinel-user watcher",
        f'sentinel sentinel-pass "{SENTINEL_PASSWORD}"',
    )
    with ExitStack() as stack:

        def server(name: str, port: int, *lines: str) -> "subprocess.Popen[bytes]":
            client = redis.Redis(port=port, password=SERVER_PASSWORD, **tls)
            return stack.enter_context(serving(*configured(name, port, *lines), client=client))

        process = server("master", master, *login)
        server("replica", replica, *login, f"replicaof 127.0.0.1 {master}", "repl-diskless-sync-delay 0")
        with redis.Redis(port=replica, password=SERVER_PASSWORD, **tls) as client:
            until(lambda: client.info("replication")["master_link_status"] == "up", "the replica")
        for number, port in enumerate(watchers):
            place = configured(f"sentinel{number}", port, *watch)
            stack.enter_context(serving(*place, "--sentinel", client=redis.Redis(port=port, **WATCHER, **tls)))
        with redis.Redis(port=watchers[0], **WATCHER, **tls) as client:
            until(lambda: len(client.sentinel_sentinels("post")) == 2, "the Sentinels to know each other")
            until(lambda: len(client.sentinel_slaves("post")) == 1, "the Sentinels to know the replica")
        hosts = ",".join(f"127.0.0.1:{port}" for port in watchers)
        query = f"ssl_ca_certs={quote(str(ca))}&sentinel_username=watcher&sentinel_password={quote(SENTINEL_PASSWORD)}"
        yield Cluster(
            f"rediss+sentinel://:{quote(SERVER_PASSWORD)}@{hosts}/post?{query}", process, master, replica, tls
        )
    gc.collect()  # so that what redis-py left is not found in another test


class Api(NamedTuple):
    url: str
    key: str

    def post(self, path: str, body: object) -> requests.Response:
        return requests.post(self.url + path, json=body, headers={"Authorization": f"Bearer {self.key}"}, timeout=30)


def start_api(room: Room) -> Api:
    made = room.postroom("keys", "create", "test", "--scope", "send", "--json")
    assert made.returncode == 0, made.stderr
    with (room.folder / "api.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "postroom", "api", "--port", "0", "--json"],
            env=room.environment,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    room.stack.callback(room.end, process)
    assert process.stdout
    room.stack.enter_context(process.stdout)
    return Api(json.loads(process.stdout.readline())["url"], json.loads(made.stdout)["key"])
