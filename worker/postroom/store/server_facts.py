"""What a Redis server says of itself, for the doctor: version, memory, persistence, clock, and who else uses it."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from postroom.store.connection import place_of
from postroom.store.constants import PREFIX
from postroom.store.functions import or_unavailable

# Keys of Postroom and of Celery: docs/operations.md, "The user of Redis".
_OURS = re.compile(rf"{re.escape(PREFIX)}|postroom|_kombu\.binding|unacked|celery-task-meta-|.*\.celery\.pidbox")
_LOOKS, _LOOKS_AT = 5, 1000  # so many times SCAN looks at about so many keys: a few milliseconds
MOST_NAMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """`answered_in_s` is how long a PING took. What is None the server did not say.

    `maxmemory` is in bytes, None also where there is no bound. `ahead_s` is how far its clock is ahead of ours.
    `others` are the beginnings of keys that are not Postroom's. `sentinels`: how many were given, how many answer.
    """

    answered_in_s: float
    version: str | None = None
    role: str | None = None
    used_memory: int | None = None
    maxmemory: int | None = None
    settings: Mapping[str, str] | None = None
    ahead_s: float | None = None
    others: tuple[str, ...] = ()
    sentinels: tuple[int, int] | None = None


def server_facts(client: "redis.Redis", url: str) -> ServerFacts:
    """The facts of the server behind `client`, which was made for `url`. Raises Unavailable if it does not answer."""
    with or_unavailable():
        began = time.monotonic()
        client.ping()
        took = time.monotonic() - began
        info = _allowed(client.info, {})
        return ServerFacts(
            answered_in_s=took,
            version=info.get("redis_version"),
            role=info.get("role"),
            used_memory=info.get("used_memory"),
            maxmemory=info.get("maxmemory") or None,
            settings=_settings(client, info),
            ahead_s=_ahead(client),
            others=_others(client),
            sentinels=_sentinels(client, url),
        )


def _allowed(ask: Any, otherwise: Any) -> Any:
    """What the server answers, or `otherwise` where its user may not ask."""
    try:
        return ask()
    except redis.exceptions.ResponseError:
        return otherwise


def _settings(client: "redis.Redis", info: Mapping[str, Any]) -> dict[str, str] | None:
    """What decides whether it keeps mail. INFO has most of it, also for a user who may not read the settings."""
    told: Any = _allowed(lambda: client.config_get("appendonly", "appendfsync", "maxmemory-policy"), None)
    if told is not None:
        return {_text(name): _text(value) for name, value in told.items()}
    known = {}
    if "aof_enabled" in info:
        known["appendonly"] = "yes" if info["aof_enabled"] else "no"
    if "maxmemory_policy" in info:
        known["maxmemory-policy"] = str(info["maxmemory_policy"])
    return known or None


def _ahead(client: "redis.Redis") -> float | None:
    before = time.time()
    told: Any = _allowed(client.time, None)
    if told is None:
        return None
    return float(told[0] + told[1] / 1e6 - (before + time.time()) / 2)


def _others(client: "redis.Redis") -> tuple[str, ...]:
    found: dict[str, None] = {}
    cursor: int | str = 0
    for _ in range(_LOOKS):
        answer: Any = _allowed(lambda at=cursor: client.scan(at, count=_LOOKS_AT), (0, ()))
        cursor, keys = answer
        for key in keys:
            name = key.decode("utf-8", "replace")
            if not _OURS.match(name):
                found[re.split(r"[:.\-_]", name)[0][:20]] = None
        if not cursor or len(found) >= MOST_NAMES:
            break
    return tuple(sorted(found)[:MOST_NAMES])


def _sentinels(client: "redis.Redis", url: str) -> tuple[int, int] | None:
    place = place_of(url)
    if not place.is_sentinel:
        return None
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    answering = 0
    for sentinel in manager.sentinels if manager else ():
        try:
            answering += bool(sentinel.ping())
        except (redis.exceptions.RedisError, OSError):
            continue
    return len(place.hosts), answering


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
