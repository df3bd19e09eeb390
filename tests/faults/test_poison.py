"""Damaged records, payloads and messages harm no other mail."""

import base64
import json
from collections.abc import Callable
from typing import Any

from postroom import Status
from postroom.store.functions import PREFIX

from ..acceptance.conftest import SENDER, Room, a_mail, until

OpenRoom = Callable[..., Room]


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
    "an empty list": b"[]",
    "a list": b"[1,2]",
    "no text": b"\xff\xfe\x00",
    "a body that is no base64": envelope(body="%%%"),
    "an unknown task": envelope(headers={"lang": "py", "task": "postroom.sned", "id": "t-2"}),
    "another content type": envelope(**{"content-type": "application/x-python-serialize"}),
}


def test_what_is_no_message_is_dropped_and_the_same_worker_goes_on_with_all_its_slots(open_room: OpenRoom) -> None:
    room = open_room(latency=0.3)
    worker = room.start_worker_process(slots=2)
    for message in MESSAGES.values():
        room.redis.lpush("postroom", message)
    producer = room.celery()
    tasks = [producer.send_task("postroom.send", args=[a_mail().to_fields()], queue="postroom") for _ in range(8)]

    assert {room.settled_task(task.id).status for task in tasks} == {Status.ACCEPTED}
    assert worker.poll() is None
    until(lambda: room.raw_log().count("message.dropped") >= 5, "a line for each that is no object")


def result(room: Room, task_id: str) -> Any:
    """What Celery's backend has of a task. (An AsyncResult asks Redis once more when it is collected.)"""
    return json.loads(room.redis.get(f"celery-task-meta-{task_id}") or "{}")


def test_tasks_of_celery_s_that_would_call_the_task_inside_their_own_are_refused(room: Room) -> None:
    worker, producer = room.start_worker_process(slots=2), room.celery()
    fields = a_mail().to_fields()
    send = producer.signature("postroom.send", queue="postroom")
    inside = {"task": "postroom.send", "args": [], "kwargs": {}, "options": {}, "subtask_type": None}
    refused = [
        producer.send_task("celery.starmap", kwargs={"task": inside, "it": [[fields]]}, queue="postroom"),
        producer.send_task("celery.chunks", args=[inside, [[fields]], 1], queue="postroom"),
    ]
    after = send.clone(args=[fields]).apply_async(link=producer.signature("shop.done", queue="shop"))

    for task in refused:
        until(lambda task=task: result(room, task.id).get("status") == "FAILURE", "the refusal")
        assert "NotRegistered" in json.dumps(result(room, task.id))
    assert (room.settled_task(after.id).reason, worker.poll()) == ("invalid", None)
    assert "on_accepted" in room.settled_task(after.id).attempts[0].detail
    assert room.sandbox.messages() == []


def test_another_mail_under_the_id_of_a_task_is_a_conflict_that_the_task_shows(room: Room) -> None:
    room.start_worker_process(slots=2)
    producer = room.celery()
    given = {"queue": "postroom", "task_id": "order-4711"}
    first = producer.send_task("postroom.send", args=[a_mail().to_fields()], **given)
    room.settled_task(first.id)
    until(lambda: result(room, first.id).get("status") == "SUCCESS", "the result of the first mail")

    producer.send_task("postroom.send", args=[a_mail().to_fields()], **given)
    other = producer.send_task("postroom.send", args=[a_mail(subject="Another").to_fields()], **given)

    until(lambda: result(room, other.id).get("status") == "FAILURE", "the conflict")
    assert "key_conflict" in json.dumps(result(room, other.id))
    assert len(room.sandbox.messages()) == 1


ROUNDS = {"nobody": None, "a truth": True, "a list": ["a@x.de"], "half a character": "a\ud800@x.de"}


def test_a_round_for_a_sender_that_cannot_exist_harms_no_other(room: Room) -> None:
    producer = room.celery()
    for sender in ROUNDS.values():
        producer.send_task("postroom.round", args=[sender], queue="postroom")
    room.start_worker_process()

    assert room.settled(room.client().send(a_mail()).id).status is Status.ACCEPTED
    until(lambda: room.raw_log().count("its message names no sender") >= len(ROUNDS) - 1, "each to be told of")
