"""Records what this version leaves in Redis: `python -m tests.acceptance.record FILE`.

Real workers and the sandbox bring jobs into every state; then the database is written down as it stands. The record
of a release (tests/recorded) shows later versions what they find in Redis while old and new work side by side.
"""

import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis

from postroom import Mail, Status

from .conftest import open_room, until

FAULTS = {
    "refused@contoso.com": {"status": 400, "code": "ErrorInvalidRecipients"},
    "busy@contoso.com": {"status": 503, "code": "ErrorMailboxMoveInProgress"},
    "doubt@contoso.com": {"status": 504},
    "late@contoso.com": {"status": 504},
    "held@contoso.com": {"status": 403, "code": "ErrorAccessDenied"},
    "expired@contoso.com": {"status": 403, "code": "ErrorAccessDenied"},
    "sending@contoso.com": {"effect": "hang"},
}


def dump(connection: "redis.Redis[bytes]") -> dict[str, Any]:
    """Every key with its type and value; what a hash or a sorted set holds, as an object."""
    found: dict[str, Any] = {}
    for key in sorted(connection.scan_iter(count=1000)):
        kind, name = connection.type(key).decode(), key.decode()
        match kind:
            case "string":
                value: Any = connection.get(key).decode()
            case "hash":
                value = {n.decode(): v.decode() for n, v in sorted(connection.hgetall(key).items())}
            case "zset":
                value = {n.decode(): score for n, score in connection.zrange(key, 0, -1, withscores=True)}
            case "list":
                value = [one.decode() for one in connection.lrange(key, 0, -1)]
            case "set":
                value = sorted(one.decode() for one in connection.smembers(key))
        found[name] = [kind, value]
    return found


def load(connection: "redis.Redis[bytes]", keys: dict[str, Any]) -> None:
    """Puts a dump into an empty database."""
    for name, (kind, value) in keys.items():
        match kind:
            case "string":
                connection.set(name, value)
            case "hash":
                connection.hset(name, mapping=value)
            case "zset":
                connection.zadd(name, value)
            case "list":
                connection.rpush(name, *value)
            case "set":
                connection.sadd(name, *value)


def record(version: str) -> dict[str, Any]:
    """A database with jobs in every state, each under the name of its state, and what time it was there."""
    with contextmanager(open_room.__wrapped__)() as opened:  # type: ignore[attr-defined]
        room = opened({"POSTROOM_ON_UNKNOWN": "hold"})
        for address, rule in FAULTS.items():
            room.sandbox.add_fault(recipient=address, **rule)
        room.start_worker_process(slots=8)
        client, jobs = room.client(), {}

        def send(name: str, **fields: Any) -> str:
            values = {"from": f"{name}@contoso.com", "to": [f"{name}@contoso.com"], "subject": "Hello", "text": "Hi"}
            mail = Mail.model_validate(values | fields)
            jobs[name] = client.send(mail, key=f"recorded/{name}", batch="recorded").id
            return jobs[name]

        def reached(job_id: str, status: Status, reason: str | None = None) -> None:
            until(lambda: (d := client.status(job_id)).status is status and reason in (None, d.reason), str(status))

        now = datetime.now(UTC)
        reached(send("accepted", template="welcome", variables={"name": "Ann"}, text=None), Status.ACCEPTED)
        late = send("late")
        reached(send("refused"), Status.DEAD)
        client.cancel(send("cancelled", scheduled_at=now + timedelta(hours=1)))
        reached(send("expired", expires_at=now + timedelta(seconds=5)), Status.EXPIRED)
        send("scheduled", scheduled_at=now + timedelta(hours=1), expires_at=now + timedelta(hours=2))
        reached(late, Status.DEAD, "unknown")
        reached(send("busy"), Status.DEFERRED, "backoff")
        reached(send("held"), Status.DEFERRED, "held")
        reached(send("doubt"), Status.DEFERRED, "unknown")
        reached(send("sending"), Status.SENDING)
        room.kill()
        send("queued", priority="high")
        send("queued-low", priority="low", attachments=[{"filename": "a.txt", "content": "SGk="}])
        seconds, micros = room.redis.time()
        return {
            "version": version,
            "now": seconds * 1000 + micros // 1000,
            "jobs": jobs,
            "keys": dump(room.redis),
        }


if __name__ == "__main__":
    from importlib.metadata import version

    Path(sys.argv[1]).write_text(json.dumps(record(version("postroom")), indent=1) + "\n", encoding="utf-8")
