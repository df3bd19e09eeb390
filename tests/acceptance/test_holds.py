"""Holds with real workers: mail flows by itself after a repair, and waits while a person holds it."""

import json
from collections.abc import Callable

from postroom.jobs.job import Status

from .conftest import SENDER, Room, a_mail, until

OpenRoom = Callable[..., Room]
NEWS = "news@contoso.com"


def holds(room: Room) -> list[dict[str, object]]:
    done = room.postroom("holds", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_an_app_with_a_wrong_secret_is_held_asks_for_tokens_alone_and_flows_after_the_repair(room: Room) -> None:
    room.environment["POSTROOM_HOLD_PROBE"] = "200ms"
    room.sandbox.set_secrets("another one")
    room.start_worker_process(slots=2)
    room.start_worker_process(slots=2)
    jobs = [room.client().send(a_mail(**{"from": sender})).id for sender in (SENDER, NEWS) for _ in range(3)]
    until(lambda: [held for held in holds(room) if held["scope"] == "app"], "the hold")
    tried = sum(len(room.client().status(job_id).attempts) for job_id in jobs)
    asked = len(room.sandbox.requests(stage="token"))
    until(lambda: len(room.sandbox.requests(stage="token")) > asked + 1, "two probes")

    assert sum(len(room.client().status(job_id).attempts) for job_id in jobs) == tried, "no mail is the probe"
    room.sandbox.set_secrets(room.address.client_secret)

    assert {room.settled(job_id).status for job_id in jobs} == {Status.ACCEPTED}
    assert holds(room) == []
    told = [(line["event"], line["app"]) for line in room.log() if line["event"].startswith("hold.")]
    assert ("hold.started", "default") in told
    until(lambda: "hold.ended" in room.raw_log(), "the event")


def test_a_mailbox_without_access_is_held_while_another_flows_and_flows_after_the_grant(room: Room) -> None:
    room.environment["POSTROOM_HOLD_PROBE"] = "200ms"
    room.sandbox.set_access(policy_mailboxes=[SENDER])
    room.start_worker_process()
    held = [room.client().send(a_mail(**{"from": NEWS})).id for _ in range(3)]
    until(lambda: holds(room), "the hold")

    assert room.settled(room.client().send(a_mail()).id).status is Status.ACCEPTED
    status = room.postroom("status", held[-1]).stdout
    assert f"mailbox {NEWS}" in status
    assert "access_denied; next probe" in status

    room.sandbox.set_access(policy_mailboxes=[SENDER, NEWS])

    assert {room.settled(job_id).status for job_id in held} == {Status.ACCEPTED}
    assert holds(room) == []


def test_an_operator_holds_and_releases_a_sender_and_a_batch(room: Room) -> None:
    client = room.client()
    waits = client.send(a_mail(), batch="wrong").id
    said = room.postroom("hold", "--batch", "wrong", "--reason", "wrong date", "--for", "2h")
    assert said.stdout == "wrong is held: 1 waiting\n"
    room.start_worker_process()
    assert room.settled(client.send(a_mail()).id).status is Status.ACCEPTED
    assert client.status(waits).status is Status.QUEUED
    assert "wrong date" in room.postroom("status", waits).stdout
    assert "wrong date" in room.postroom("holds").stdout
    assert room.postroom("hold").returncode == room.postroom("hold", NEWS, "--batch", "wrong").returncode == 2
    assert "'bob@' is not an address" in room.postroom("hold", "bob@").stderr
    assert "no mail of a batch of this name" in room.postroom("hold", "--batch", "wrogn").stdout
    assert room.postroom("release", "--batch", "wrogn").returncode == 0

    assert room.postroom("release", "--batch", "wrong").stdout == "wrong is released\n"

    assert room.settled(waits).status is Status.ACCEPTED
    assert room.postroom("release", "--batch", "wrong").stdout == "wrong was not held\n"
    assert room.postroom("hold", f"Contoso News <{NEWS}>").returncode == 0
    assert [held["name"] for held in holds(room)] == [NEWS]
