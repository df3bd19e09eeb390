"""Celery's AsyncResult shows what became of a job, here or in a backend elsewhere."""

import json

import celery
import pytest
from celery.result import AsyncResult

from postroom.errors import MailDead, MailExpired
from postroom.jobs.outcome import Answer, Refused
from postroom.store.celery_urls import celery_urls
from postroom.store.functions import PREFIX

from .room import ACCEPTED, BUSY, SENDER, Room, mail, throttled


def test_async_result_shows_each_state(room: Room, server: str) -> None:
    urls = celery_urls(server)
    app = celery.Celery(broker=urls.broker, backend=urls.backend)

    def seen(job_id: str) -> AsyncResult:
        return AsyncResult(job_id, app=app)

    job_id = room.take()
    assert seen(job_id).state == "PENDING"
    room.send(BUSY)
    assert (seen(job_id).state, str(seen(job_id).result)) == ("RETRY", "backoff, HTTP 503, busy")
    room.jump(3600)
    job = room.sending()
    assert seen(job_id).state == "PENDING"
    room.settle(job, ACCEPTED)
    assert seen(job_id).get(timeout=1) == {
        "id": job_id,
        "status": "accepted",
        "http_status": 202,
        "request_id": "r-1",
        "client_request_id": f"request-{room.made}",
        "attempts": 2,
        "accepted_at": room.at(0).isoformat(timespec="milliseconds"),
        "sender": SENDER,
    }
    assert seen(job_id).date_done == room.at(0)

    dead = room.take()
    room.send(Refused(reason="bad", answer=Answer(http_status=400, graph_code="ErrorInvalid")))
    with pytest.raises(MailDead, match=r"^bad, HTTP 400, ErrorInvalid$"):
        seen(dead).get(timeout=1)

    expired = room.take(mail(expires_at=room.at(1)))
    room.tick(2)
    with pytest.raises(MailExpired, match=r"^expired$"):
        seen(expired).get(timeout=1)

    cancelled = room.take()
    room.ledger.cancel(cancelled, now=room.now)
    assert seen(cancelled).state == "REVOKED"
    app.backend.client.connection_pool.disconnect()


def test_a_result_is_mirrored_under_the_task_id_of_a_known_key(room: Room) -> None:
    job_id = room.take()
    room.ledger.mirror(job_id, "task", now=room.now)
    assert not room.redis.exists("celery-task-meta-task")
    room.send()
    room.ledger.mirror(job_id, "another", now=room.now)

    for shown in (job_id, "task", "another"):
        meta = json.loads(room.redis.get(f"celery-task-meta-{shown}"))
        assert (meta["status"], meta["task_id"], meta["result"]["id"]) == ("SUCCESS", shown, job_id)
    room.jump(3601)
    room.tick()
    assert room.redis.keys("celery-task-meta-*") == []


def test_results_for_another_backend_are_lent_until_they_are_stored(room: Room) -> None:
    room.publish(results_here=False)
    job_id = room.take()
    room.send()
    room.ledger.mirror(job_id, "task", now=room.now)

    def tick() -> tuple[str, ...]:
        return tuple(room.ledger.results_due(now=room.now))

    assert (tick(), tick()) == ((job_id,), ())
    room.jump(30)
    assert tick() == (job_id,)
    due = room.ledger.result_due(job_id)
    assert due is not None
    assert (due.state, due.result["status"], set(due.ids)) == ("SUCCESS", "accepted", {job_id, "task"})
    assert room.ledger.result_stored(job_id, due.changed)
    room.jump(30)
    assert tick() == ()


def test_a_result_that_changed_while_it_was_stored_stays_due_even_within_one_millisecond(room: Room) -> None:
    room.publish(results_here=False)
    job_id = room.take()
    room.send(throttled(1))
    due = room.ledger.result_due(job_id)
    room.ledger.cancel(job_id, now=room.now)

    assert due is not None
    assert not room.ledger.result_stored(job_id, due.changed)
    due = room.ledger.result_due(job_id)
    assert due is not None
    assert due.state == "REVOKED"
    assert room.ledger.result_stored(job_id, due.changed)


def test_a_result_nobody_stored_is_dropped_with_its_record(room: Room) -> None:
    room.publish(results_here=False)
    job_id = room.take()
    room.send()
    room.jump(3601)
    room.tick()

    assert room.ledger.result_due(job_id) is None
    assert not room.redis.exists(PREFIX + "results")


def test_ten_thousand_mirrors_are_no_trouble_for_another_backend(room: Room) -> None:
    room.publish(results_here=False)
    job_id = room.take()
    room.redis.sadd(f"{PREFIX}mirrors:{job_id}", *range(10_000))

    due = room.ledger.result_due(job_id)

    assert due is not None
    assert len(due.ids) == 10_001
