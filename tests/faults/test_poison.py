"""Damaged records, payloads and messages harm no other mail."""

import base64
import json
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from postroom import Status
from postroom.store.functions import PREFIX

from ..acceptance.conftest import SENDER, Room, a_mail, until


def damage(field: str, value: str | None) -> Callable[[Room, str], object]:
    def strike(room: Room, job: str) -> object:
        key = f"{PREFIX}job:{job}"
        return room.redis.hset(key, field, value) if value is not None else room.redis.hdel(key, field)

    return strike


RECORDS = {
    "recipients that are no number": damage("recipients", "many"),
    "no recipients": damage("recipients", None),
    "no age": damage("seq", None),
    "a priority that is none": damage("priority", "loud"),
    "no lane": damage("lane", None),
    "a place that is none": damage("place", "somewhere"),
    "an expiry that is no time": damage("expires", "soon"),
    "attempts that are no number": damage("attempts", "few"),
    "a version that is none": damage("v", "new"),
}
PAYLOADS = {"none": None, "no JSON": "{", "no mail": '{"to": 7}', "bytes": b"\xff\xfe"}


def test_a_damaged_record_is_a_dead_letter_and_stops_nothing(room: Room) -> None:
    client = room.client()
    struck = {what: client.send(a_mail()).id for what in RECORDS}
    later = {what: client.send(a_mail(**{"from": "later@contoso.com"})).id for what in RECORDS}
    for what, strike in RECORDS.items():
        strike(room, struck[what])
        # the same in a job that is still to come
        room.redis.zrem(f"{PREFIX}ready:normal:later@contoso.com", later[what])
        room.redis.zadd(f"{PREFIX}later:later@contoso.com", {later[what]: 0})
        strike(room, later[what])
    good = [client.send(a_mail(**{"from": sender})).id for sender in (SENDER, "later@contoso.com", "m@contoso.com")]

    room.start_worker_process()

    assert {room.settled(job).status for job in good} == {Status.ACCEPTED}
    assert {what: ending(room, job) for what, job in struck.items()} == dict.fromkeys(RECORDS, ("dead", "damaged"))
    assert {what: ending(room, job) for what, job in later.items()} == dict.fromkeys(RECORDS, ("dead", "damaged"))
    assert len(room.sandbox.messages()) == len(good)
    assert "tick.failed" not in room.raw_log()
    listed = json.loads(room.postroom("dead", "list", "--json").stdout)
    assert [(kind["reason"], kind["count"]) for kind in listed["reasons"]] == [("damaged", 2 * len(RECORDS))]


def ending(room: Room, job: str) -> tuple[str, str | None]:
    found = room.settled(job)
    return found.status, found.reason


def test_a_payload_that_cannot_be_read_is_a_dead_letter_and_the_others_flow(room: Room) -> None:
    client = room.client()
    struck = [client.send(a_mail()).id for _ in PAYLOADS]
    for job, payload in zip(struck, PAYLOADS.values(), strict=True):
        key = f"{PREFIX}mail:{job}"
        room.redis.delete(key) if payload is None else room.redis.set(key, payload)
    good = client.send(a_mail()).id

    room.start_worker_process()

    assert room.settled(good).status is Status.ACCEPTED
    assert [ending(room, job) for job in struck] == [("dead", "damaged")] * len(PAYLOADS)
    assert len(room.sandbox.messages()) == 1


def envelope(**changes: Any) -> bytes:
    """A message in Celery's form for a task that takes a mail in, with something wrong with it."""
    body = base64.b64encode(json.dumps([[{"to": "x"}], {}, {}]).encode()).decode()
    whole: dict[str, Any] = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "postroom.send", "id": "t-1"},
        "properties": {"body_encoding": "base64", "delivery_tag": "t-1", "delivery_info": {"routing_key": "postroom"}},
    }
    return json.dumps(whole | changes).encode()


MESSAGES = {
    "no JSON": b"not a Celery message",
    "a number": b"7",
    "no text": b"\xff\xfe\x00",
    "a body that is no base64": envelope(body="%%%"),
    "an unknown task": envelope(headers={"lang": "py", "task": "postroom.sned", "id": "t-2"}),
    "another content type": envelope(**{"content-type": "application/x-python-serialize"}),
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
def test_an_unreadable_message_ends_at_most_its_worker_which_is_started_again(supervised: Room, message: bytes) -> None:
    supervised.redis.lpush("postroom", message)
    until(lambda: not supervised.redis.exists("postroom"), "a worker to take it")

    assert supervised.settled(supervised.client().send(a_mail()).id).status is Status.ACCEPTED


ROUNDS = {"nobody": None, "a truth": True, "a list": ["a@x.de"], "half a character": "a\ud800@x.de"}


def test_a_round_for_a_sender_that_cannot_exist_harms_no_other(room: Room) -> None:
    producer = room.celery()
    for sender in ROUNDS.values():
        producer.send_task("postroom.round", args=[sender], queue="postroom")
    room.start_worker_process()

    assert room.settled(room.client().send(a_mail()).id).status is Status.ACCEPTED
    until(lambda: room.raw_log().count("its message names no sender") >= len(ROUNDS) - 1, "each to be told of")


@pytest.fixture(scope="module")
def supervised(module_room: Callable[..., Room]) -> Room:
    room = module_room()
    room.start_worker("--processes", "2", "--concurrency", "2")
    assert psutil.Process(room.workers[0].pid).children()
    return room
