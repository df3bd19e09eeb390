"""The tasks that a producer wants called when its mail has ended, on a real server."""

import json
import time
from threading import Event
from typing import Any

import pytest
from celery import signature

from postroom.consumers import Context, consume, consumer_of
from postroom.errors import InvalidMail
from postroom.jobs.callbacks import Callbacks
from postroom.jobs.outcome import Refused
from postroom.store import journal
from postroom.store.functions import PREFIX
from postroom.store.journal import CALLBACKS, CallbackStream, Journal
from postroom.store.operator import Actor
from postroom.store.shared_content import Sharing

from .room import ACCEPTED, Room, mail

WELCOMED = {"task": "shop.welcomed", "args": [4711, []], "kwargs": {"empty": {}}, "options": {"queue": "shop"}}


def take(room: Room, **signatures: Any) -> str:
    job_id = room.name("job")
    calls = Callbacks.of(signatures.pop("on_accepted", None), signatures.pop("on_dead", None))
    room.ledger.take_in(job_id, mail(**signatures), None, None, now=room.now, calls=calls)
    return job_id


def push_callbacks(room: Room) -> list[dict[str, Any]]:
    """What a worker does soon after the end of mails; the events of what was refused."""
    events: list[dict[str, Any]] = []
    stream = CallbackStream(room.redis, "worker")
    context = Context(
        Journal(room.redis, "worker"), stream, None, lambda event, **facts: events.append({"event": event, **facts})
    )
    consumer = consumer_of("callbacks", context)
    assert consumer
    consume(consumer, Event(), context.emit, 0.001)
    return events


def called(room: Room, queue: str = "celery") -> list[tuple[str, list[Any], dict[str, Any]]]:
    """What was asked for on a queue, the first one first: the task, its arguments."""
    push_callbacks(room)
    found = []
    for message in map(json.loads, reversed(room.redis.lrange(queue, 0, -1))):
        args, kwargs, _ = json.loads(message["body"])
        found.append((message["headers"]["task"], args, kwargs))
    return found


def test_a_task_is_called_once_when_its_mail_was_accepted_with_the_job_s_id_in_front(room: Room) -> None:
    job_id = take(room, on_accepted=WELCOMED, on_dead={"task": "shop.failed"})
    assert called(room, "shop") == []

    assert room.send() == job_id

    assert called(room, "shop") == [("shop.welcomed", [job_id, 4711, []], {"empty": {}})]
    assert called(room) == []


def test_an_immutable_signature_gets_no_id_and_a_signature_of_celery_is_one(room: Room) -> None:
    take(room, on_accepted=signature("shop.done", args=('ö/"',), immutable=True))
    room.send()

    assert called(room) == [("shop.done", ['ö/"'], {})]


def test_a_mail_that_is_refused_or_expires_calls_on_dead_and_a_cancelled_one_calls_nothing(room: Room) -> None:
    on_dead = {"task": "shop.failed", "args": None, "kwargs": None, "options": None}
    refused = take(room, on_dead=on_dead)
    room.send(Refused(reason="bad"))
    expired, cancelled = take(room, on_dead=on_dead, expires_at=room.at(30)), take(room, on_dead=on_dead)
    room.ledger.cancel(cancelled, now=room.now)
    room.tick(31)

    assert called(room) == [("shop.failed", [job_id], {}) for job_id in (refused, expired)]


def test_a_dead_letter_that_is_sent_again_calls_again_under_another_id(room: Room) -> None:
    job_id = take(room, on_accepted={"task": "shop.done"}, on_dead={"task": "shop.failed"})
    for outcome in (Refused(reason="bad"), Refused(reason="bad"), ACCEPTED):
        room.send(outcome)
        room.ledger.requeue([job_id], Actor(room.name("order"), "ops@mailhost"), now=room.now)

    assert called(room) == [(f"shop.{task}", [job_id], {}) for task in ("failed", "failed", "done")]
    ids = [json.loads(message)["headers"]["id"] for message in room.redis.lrange("celery", 0, -1)]
    assert len(set(ids)) == 3


def test_each_mail_of_many_calls(room: Room) -> None:
    calls = Callbacks.of({"task": "shop.done"}, None)
    sharing = Sharing()
    entries = [sharing.entry(room.name("job"), mail(subject=f"No. {n}"), None) for n in range(3)]
    room.ledger.take_in_many(entries, None, None, now=room.now, calls=calls)
    sent = {room.send() for _ in range(3)}

    assert sorted(called(room)) == [("shop.done", [job_id], {}) for job_id in sorted(sent)]


def test_a_changed_letter_calls_for_the_one_before_it(room: Room) -> None:
    old = take(room, on_accepted={"task": "shop.done"})
    room.send(Refused(reason="bad"))
    room.ledger.replace(old, "new", mail(), ["to"], Actor("order", "ops@mailhost"), now=room.now)
    room.send()

    assert called(room) == [("shop.done", ["new"], {})]


def test_what_came_as_no_mail_calls_on_dead(room: Room) -> None:
    calls = Callbacks.of(None, {"task": "shop.failed"})
    for _ in range(2):  # the reply was lost
        room.ledger.take_in_dead("id", "a@b.de", "{}", "invalid", "to: no address", now=room.now, calls=calls)

    assert called(room) == [("shop.failed", ["id"], {})]


def test_a_repeated_settle_calls_no_second_time(room: Room) -> None:
    take(room, on_accepted={"task": "shop.done"})
    job = room.sending()
    for _ in range(2):
        assert room.settle(job, ACCEPTED)

    assert len(called(room)) == 1


def test_a_task_that_cannot_be_called_is_reported_and_tried_again_and_the_mail_s_end_stays(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.redis.set("shop", "no list")
    job_id = take(room, on_accepted=WELCOMED)
    room.send()

    assert str(room.read(job_id).status) == "accepted"
    (told,) = push_callbacks(room)
    assert (told["event"], told["job"], told["tries"]) == ("call.failed", job_id, 1)
    assert "WRONGTYPE" in told["error"]

    assert push_callbacks(room) == []  # not at once
    room.redis.delete("shop")
    monkeypatch.setattr(journal, "FIRST_RETRY_S", 0.01)
    time.sleep(0.02)
    assert called(room, "shop") == [("shop.welcomed", [job_id, 4711, []], {"empty": {}})]
    assert room.redis.xlen(CALLBACKS) == 0


def test_a_task_is_pushed_once_though_its_worker_asks_twice(room: Room) -> None:
    take(room, on_accepted={"task": "shop.done"})
    room.send()
    stream = CallbackStream(room.redis, "worker")
    stream.restore("callbacks")
    (entry,) = stream.read("callbacks", 10, 0.001)

    stream.push("callbacks", entry)
    stream.push("callbacks", entry)  # the reply was lost

    assert room.redis.llen("celery") == 1


def test_a_mail_with_a_call_is_left_alone_by_workers_that_know_of_none(room: Room) -> None:
    plain, calling = room.take(), take(room, on_dead={"task": "shop.failed"})

    assert [room.record(job_id).get(b"v") for job_id in (plain, calling)] == [None, b"2"]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("shop.done", "on_dead: a Celery signature, or the dict that one is, not str"),
        ({}, "on_dead: task: the name of a task is needed"),
        ({"task": "t", "options": {"queue": "postroom"}}, "on_dead: options.queue: the name of a queue of your own"),
        (
            {"task": "t", "options": {"queue": PREFIX + "seq"}},
            "on_dead: options.queue: the name of a queue of your own",
        ),
        ({"task": "t", "options": {"countdown": 5}}, "on_dead: options: only queue can be kept, not countdown"),
        ({"task": "t", "args": [object()]}, "on_dead: its args and kwargs must be JSON"),
        (signature("a") | signature("b"), "on_dead: one task can be called, not a chain"),
    ],
)
def test_what_is_no_signature_of_one_task_is_refused(given: Any, fault: str) -> None:
    with pytest.raises(InvalidMail) as error:
        Callbacks.of(None, given)
    assert str(error.value).startswith(fault)
