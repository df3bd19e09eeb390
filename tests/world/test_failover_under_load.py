"""A failover while mail comes in at every door and leaves: each mail that the new master can know is sent once.

Redis replicates after it has answered. So what the master confirmed in its last moments may be gone with it: a mail, or
the note that a mail is being sent. The test knows which mails that can be, and measures that they are few.
"""

import json
import smtplib
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
import requests
from celery import Celery
from kombu.exceptions import OperationalError

from postroom import Client, Status, Unavailable, UnknownJob
from postroom.store.celery_urls import celery_urls
from postroom.store.connection import connect
from postroom.store.ledger import Ledger
from tests.acceptance.conftest import SENDER, Room, a_mail, open_room, until
from tests.acceptance.test_smtp import a_message, job_of

from .load import PAUSE_S, Producer, Refused, Replicated, at_work
from .sentinels import LEAVES_SOCKETS, Cluster, cluster, start_api

pytestmark = [pytest.mark.world, pytest.mark.timeout(300), LEAVES_SOCKETS]
__all__ = ["cluster", "open_room"]

# A request that was marked in the master's last moment has arrived by then.
ARRIVES_WITHIN_S = 2.0
MAILBOXES = 30
SETTINGS = {"POSTROOM_RATE": "off", "POSTROOM_LEASE": "10s"}


# What each door says while there is no master. SMTP's and HTTP's client learn that they may try again.
REFUSALS = {
    "one thread": {"Unavailable"},
    "threads": {"Unavailable"},
    "smtp": {"451"},
    "http": {"503"},
    "command": {"exit 1, 1 line"},
    "task": {"OperationalError", "not taken in"},
}


class Doors:
    """The doors, each as a function that gives it a mail with this key and subject, and returns the job's id."""

    def __init__(self, room: Room, url: str) -> None:
        self.room, self.url = room, url
        self.ledger = self._ledger()
        self.server, (self.port,) = room.start_smtp()
        self.api = start_api(room)
        urls = celery_urls(url)
        self.celery = Celery(broker=urls.broker)
        options = {**urls.options, "socket_timeout": 1, "socket_connect_timeout": 1}
        self.celery.conf.update(broker_transport_options=options, broker_use_ssl=dict(urls.tls))
        room.stack.callback(self.celery.close)

    def _ledger(self) -> Ledger:
        connection = connect(self.url, timeout_s=1.0, name="test")
        self.room.stack.callback(connection.close)
        return Ledger(connection)

    def client(self) -> Callable[[str], str]:
        """One with a connection of its own."""
        client = Client(self._ledger())

        def send(key: str) -> str:
            try:
                return client.send(a_mail(**fields_of(key)), key=key).id
            except Unavailable:
                raise Refused("Unavailable") from None

        return send

    def smtp(self, key: str) -> str:
        message = a_message(X_Postroom_Key=key)
        message.replace_header("Subject", key)
        with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as session:
            session.ehlo()
            session.mail(SENDER)
            session.rcpt("ann@contoso.com")
            try:
                code, answer = session.data(message.as_bytes())
            except smtplib.SMTPDataError as error:
                code, answer = error.smtp_code, b""
        if code != 250:
            raise Refused(f"{code}")
        return job_of(answer)

    def http(self, key: str) -> str:
        headers = {"Authorization": f"Bearer {self.api.key}", "Idempotency-Key": key}
        answer = requests.post(f"{self.api.url}/v1/emails", json=fields_of(key), headers=headers, timeout=60)
        if answer.status_code != 202:
            raise Refused(f"{answer.status_code}")
        return str(answer.json()["id"])

    def command(self, key: str) -> str:
        words = [f"--{name}={value}" for name, value in fields_of(key).items()]
        done = self.room.postroom("send", *words, f"--key={key}", "--json")
        if done.returncode:
            raise Refused(f"exit {done.returncode}, {len(done.stderr.splitlines())} line")
        return str(json.loads(done.stdout)["id"])

    def task(self, key: str) -> str:
        """Its mail is kept once a worker has run the task. Where it is given again, it is the same task."""
        job = str(uuid.uuid5(uuid.NAMESPACE_URL, key))
        given = {"args": [fields_of(key)], "kwargs": {"key": key}, "task_id": job}
        try:
            self.celery.send_task("postroom.send", **given, queue="postroom", retry=False)
        except OperationalError:
            raise Refused("OperationalError") from None
        end = time.monotonic() + 5
        while time.monotonic() < end:
            with suppress(UnknownJob, Unavailable):
                return self.ledger.records.read(job).id
            time.sleep(PAUSE_S)
        raise Refused("not taken in")

    def has_ended(self, job: str) -> bool:
        try:
            return self.ledger.records.read(job).status.ended
        except Unavailable:
            return False


def fields_of(key: str) -> dict[str, str]:
    """A mail of one of some mailboxes."""
    number = sum(key.encode()) % MAILBOXES
    return {"from": f"m{number}@contoso.com", "to": "ann@contoso.com", "subject": key, "text": "Hi"}


def test_a_failover_under_load_loses_and_doubles_nothing_that_was_replicated(
    cluster: Cluster, open_room: Callable[..., Room]
) -> None:
    room = open_room(SETTINGS | {"POSTROOM_REDIS_URL": cluster.url}, latency=0.05)
    workers = [room.start_worker_process(slots=8, ready=False) for _ in range(2)]
    doors = Doors(room, cluster.url)
    producers = [
        Producer("one thread", doors.client()),
        Producer("threads", doors.client(), threads=8),
        Producer("smtp", doors.smtp),
        Producer("http", doors.http),
        Producer("command", doors.command),
        Producer("task", doors.task),
    ]
    replicated = Replicated()
    threading.Thread(target=replicated.watch, args=(cluster.server(cluster.port),), daemon=True).start()
    with at_work(producers):
        for one in producers:
            one.wait_for(5)
        until(lambda: room.sandbox.stats()["accepted"] >= 100, "mails to be sent")
        cluster.master.kill()
        cluster.master.wait()
        killed = time.monotonic()
        for one in producers:
            one.wait_for(5, since=killed)

    sent = {mail for one in producers for mail in one.sent}
    certain = {mail for mail in sent if mail.ended < replicated.until or mail.began > killed}
    until(lambda: all(doors.has_ended(mail.job) for mail in certain), "all mails to end", 180)
    copies, unsure = copies_of(room), sent_between(room, replicated.until, killed + ARRIVES_WITHIN_S)
    once = {mail for mail in certain if mail.key not in unsure}
    told = f"{len(sent)} mails, {len(sent - certain)} perhaps lost, {len(certain - once)} perhaps doubled; "
    print(told, f"{sum(copies[mail.key] == 0 for mail in sent)} were lost,", Counter(copies.values()))
    print({one.name: (len(one.sent), dict(one.refusals), round(one.slowest_s, 1)) for one in producers})

    assert {doors.ledger.records.read(mail.job).status for mail in certain} == {Status.ACCEPTED}
    assert {mail.key: copies[mail.key] for mail in once if copies[mail.key] != 1} == {}
    assert {key: count for key, count in copies.items() if count > 2} == {}
    for one in producers:
        assert len(once & {*one.sent}) >= 5, one.name
        assert {*one.refusals} <= REFUSALS[one.name], one.name
    assert [*(worker.poll() for worker in workers), doors.server.poll()] == [None, None, None], room.raw_log()[-5000:]


def copies_of(room: Room) -> "Counter[str]":
    """How often a mail with each key arrived."""
    return Counter(message.subject for message in room.sandbox.messages())


def sent_between(room: Room, begin: float, end: float) -> set[str]:
    """The keys of mails that were sent when the replica perhaps did not hear of it: nobody can know that they were."""
    keys = {message.job: message.subject for message in room.sandbox.messages()}
    return {keys[one.job] for one in room.sandbox.requests(accepted=True) if begin <= one.monotonic <= end}
