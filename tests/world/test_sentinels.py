"""A failover by three Sentinels over TLS, with users of their own: every door and every worker finds the new master."""

import smtplib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from postroom import Client, Status, Unavailable
from postroom.jobs.job_filter import JobFilter
from postroom.store.connection import connect
from postroom.store.ledger import Ledger
from tests.acceptance.conftest import Room, a_mail, open_room, until
from tests.acceptance.test_smtp import a_message

from .sentinels import LEAVES_SOCKETS, Cluster, cluster, start_api

pytestmark = [pytest.mark.world, LEAVES_SOCKETS]
__all__ = ["cluster", "open_room"]

# Of the Sentinels: a second until they call the master down, and some until a replica is the master.
PATIENCE_S = 30


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
