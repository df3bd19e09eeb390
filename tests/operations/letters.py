"""Dead letters for tests, and what a person does to them."""

from typing import Any

import celery
from celery.result import AsyncResult

from postroom.jobs.job import Status
from postroom.jobs.outcome import Answer, NotPermitted, Refused
from postroom.store.operator import Actor

from ..store.room import NO_ANSWER, SENDER, Room, looked, mail

WRONG = Refused(reason="invalid_recipients", answer=Answer(http_status=400, graph_code="ErrorInvalidRecipients"))
ORDER = Actor("order-1", "ops@mailhost", "mended")


def dead(room: Room, key: str | None = None, batch: str | None = None, **fields: Any) -> str:
    """A letter that died of one refusal."""
    job_id = room.take(mail(**fields), key=key, batch=batch)
    assert room.send(WRONG, fields.get("sender", SENDER)) == job_id
    return job_id


def dead_in_doubt(room: Room) -> str:
    """One that nobody may look up, and whose second outcome is unknown as well."""
    job_id = room.take()
    for _ in range(2):
        room.send(NO_ANSWER)
        room.jump(10)
        look_up(room)
    assert (room.read(job_id).status, room.read(job_id).reason) == (Status.DEAD, "unknown")
    return job_id


def look_up(room: Room) -> None:
    """The next job is looked up, which is not permitted."""
    looked(room, NotPermitted(answer=Answer(http_status=403)))


def requeue(room: Room, job_id: str, actor: Actor = ORDER, **how: Any) -> str:
    return room.ledger.requeue([job_id], actor, now=room.now, **how)[0].said


def result(room: Room, job_id: str) -> str:
    url = room.redis.connection_pool.connection_kwargs["path"]
    with celery.Celery(backend=f"redis+socket://{url}") as app:
        return str(AsyncResult(job_id, app=app).state)
