"""A failover by three Sentinels over TLS, with users of their own: every door and every worker finds the new master."""

import json
import smtplib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
import redis
import requests

from postroom import Client, Status, Unavailable
from postroom.jobs.job_filter import JobFilter
from postroom.store.connection import connect
from postroom.store.ledger import Ledger
from tests.acceptance.conftest import Room, a_mail, open_room, until
from tests.acceptance.test_smtp import a_message
from tests.store.redis_servers import free_port

from .redis_servers import certificates, serving, tls_settings

pytestmark = pytest.mark.world
__all__ = ["open_room"]

SERVER_PASSWORD, SENTINEL_PASSWORD = "for the server", "for the sentinels"
WATCHER = {"username": "watcher", "password": SENTINEL_PASSWORD}
# Of the Sentinels: a second until they call the master down, and some until a replica is the master.
PATIENCE_S = 30


class Cluster(NamedTuple):
    url: str
    master: "subprocess.Popen[bytes]"
    replica: int


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    """A master, a replica and three Sentinels."""
    ca = certificates(folder)
    tls = {"host": "127.0.0.1", "ssl": True, "ssl_ca_certs": str(ca), "retry": None}
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
        yield Cluster(f"rediss+sentinel://:{quote(SERVER_PASSWORD)}@{hosts}/post?{query}", process, replica)


def keeps_on(send: Callable[[], object]) -> None:
    """Sends until a mail is taken in."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            send()
        except (Unavailable, smtplib.SMTPResponseException, requests.HTTPError):
            assert time.monotonic() < end, "the new master was not found"
            time.sleep(0.1)
        else:
            return


def test_every_door_and_the_workers_go_on_after_a_failover(cluster: Cluster, open_room: Callable[..., Room]) -> None:
    room = open_room({"POSTROOM_REDIS_URL": cluster.url, "POSTROOM_RATE": "off"})
    here = connect(cluster.url, timeout_s=1.0, name="test")
    ledger = Ledger(here)
    client = Client(ledger)
    worker = room.start_worker_process(slots=4, ready=False)
    smtp, (port,) = room.start_smtp()
    api = start_api(room)

    def by_client() -> None:
        client.send(a_mail(subject="client"))

    def by_threads() -> None:
        with ThreadPoolExecutor(8) as threads:
            for sent in [threads.submit(client.send, a_mail(subject="threads")) for _ in range(16)]:
                sent.result()

    def by_smtp() -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as session:
            session.send_message(a_message())

    def by_http() -> None:
        mail = {"to": "ann@contoso.com", "subject": "api", "text": "x"}
        api.post("/v1/emails", mail).raise_for_status()

    doors = (by_client, by_threads, by_smtp, by_http)
    for door in doors:
        door()
    until(lambda: all_accepted(ledger, 19), "all mails to be sent before the failover")

    cluster.master.kill()
    with ThreadPoolExecutor(len(doors)) as threads:
        for done in [threads.submit(keeps_on, door) for door in doors]:
            done.result()

    assert here.info("server")["tcp_port"] in (0, cluster.replica)
    until(lambda: all_accepted(ledger, 20), "the mails after it to be sent")
    assert (worker.poll(), smtp.poll()) == (None, None)
    here.close()


def all_accepted(ledger: Ledger, at_least: int) -> bool:
    found = ledger.records.newest(JobFilter(), 500)
    return len(found) >= at_least and {job.status for job in found} == {Status.ACCEPTED}


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
