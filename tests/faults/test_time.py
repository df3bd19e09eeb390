"""A slow Entra, a replaced secret, a stop under load, and mail that is scheduled for years later."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from postroom import Status
from postroom.store.functions import PREFIX

from ..acceptance.conftest import Room, a_mail, start_redis, until

OpenRoom = Callable[..., Room]


@pytest.mark.parametrize(
    "fault",
    [{"effect": "hang"}, {"effect": "pass", "drip": 1.0}, {"status": 429, "retry_after": 1}, {"status": 503}],
    ids=["hangs", "drips", "429", "503"],
)
def test_an_entra_that_does_not_answer_costs_no_attempt_and_the_mail_flows_once_it_does(
    open_room: OpenRoom, fault: dict[str, str | float]
) -> None:
    room = open_room({"SHORT_LEASE": "4"})
    client = room.client()
    entra = room.sandbox.add_fault(stage="token", **fault)
    room.start_worker_process(app="tests.faults.halting")
    jobs = [client.send(a_mail(**{"from": f"m{n}@contoso.com"})).id for n in range(3)]

    until(lambda: all(client.status(job).pause_reason for job in jobs), "the pause of the app")
    room.sandbox.remove_fault(entra)

    ends = [room.settled(job) for job in jobs]
    assert {end.status for end in ends} == {Status.ACCEPTED}
    assert {attempt.number for end in ends for attempt in end.attempts} <= {0, 1}, "only the last one was a try"


def test_a_secret_that_is_replaced_while_mail_flows_loses_and_doubles_nothing(room: Room) -> None:
    client, secret = room.client(), room.folder / "secret"
    secret.write_text(room.address.client_secret)
    del room.environment["POSTROOM_CLIENT_SECRET"]
    old = room.start_worker_process(POSTROOM_CLIENT_SECRET_FILE=str(secret), POSTROOM_HOLD_PROBE="200ms")
    jobs = [client.send(a_mail()).id]
    room.settled(jobs[0])

    room.sandbox.set_secrets("a new one")
    room.sandbox.revoke_tokens()
    jobs += [client.send(a_mail(**{"from": f"m{n}@contoso.com"})).id for n in range(4)]
    until(client.holds, "the app to be held")
    secret.write_text("a new one")
    room.end(old)
    room.start_worker_process(POSTROOM_CLIENT_SECRET_FILE=str(secret))

    assert {room.settled(job).status for job in jobs} == {Status.ACCEPTED}
    assert Counter(message.job for message in room.sandbox.messages()) == Counter(jobs)
    assert client.holds() == []


@pytest.mark.parametrize("delivery", ["send", "draft"])
def test_workers_that_are_ended_under_load_finish_what_they_have_in_hand_and_leave_no_doubt(
    open_room: OpenRoom, delivery: str
) -> None:
    settings = {"POSTROOM_RATE": "off", "POSTROOM_DELIVERY": delivery}
    room = open_room(settings, roles=("Mail.Send", "Mail.ReadWrite"), latency=0.2)
    client = room.client()
    jobs = [client.send(a_mail(**{"from": f"m{n % 10}@contoso.com"})).id for n in range(36)]
    for sent in (3, 10):
        worker = room.start_worker_process()
        until(lambda sent=sent: int(room.sandbox.stats()["accepted"]) >= sent, "the load")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=20) == 0
        assert not room.redis.exists(f"{PREFIX}leases"), "nothing is left in its hands"
    room.start_worker_process()

    ends = [room.settled(job) for job in jobs]

    assert {end.status for end in ends} == {Status.ACCEPTED}
    assert Counter(message.job for message in room.sandbox.messages()) == Counter(jobs)
    assert {attempt.outcome for end in ends for attempt in end.attempts} == {"accepted"}


def test_what_is_scheduled_for_years_hence_outlives_workers_and_redis_and_costs_its_record(room: Room) -> None:

    client = room.client()
    hence = datetime.now(UTC) + timedelta(days=3650)
    far = [client.send(a_mail(scheduled_at=hence, to=[f"u{n}@contoso.com"])).id for n in range(3)]
    soon = client.send(a_mail(scheduled_at=datetime.now(UTC) + timedelta(milliseconds=300))).id
    worker = room.start_worker_process()
    assert room.settled(soon).status is Status.ACCEPTED
    room.end(worker)

    os.kill(room.redis.info("server")["process_id"], signal.SIGKILL)
    start_redis(room.folder)
    room.start_worker_process()
    assert room.settled(client.send(a_mail()).id).status is Status.ACCEPTED

    for job in far:
        found = client.status(job)
        assert (found.status, found.reason) == (Status.DEFERRED, "scheduled")
        assert found.next_at
        assert abs(found.next_at - hence) < timedelta(seconds=1)
        assert room.redis.ttl(f"{PREFIX}job:{job}") == -1, "no key's lifetime ends before its time has come"
    assert room.redis.llen("postroom") + room.redis.hlen("unacked") == 0, "and no message waits for it"
    assert len(room.sandbox.messages()) == 2
