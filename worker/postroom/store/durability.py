"""Whether a Redis server's own settings keep what it has confirmed."""

from collections.abc import Mapping
from typing import Any

import redis

from postroom.store.functions import or_unavailable

# As in docs/operations.md.
_SAFE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
_LOSES = {
    "appendonly": "all mail since its last snapshot is lost when it ends",
    "appendfsync": "a power cut takes the last confirmed mail, and may send some again",
    "maxmemory-policy": "it forgets mail when it is full",
}


def weaknesses(client: redis.Redis) -> list[str]:
    """A sentence for each setting that would lose mail that was confirmed, with what to set instead.

    Raises Unavailable.
    """
    with or_unavailable():
        try:
            reply: Any = client.config_get(*_SAFE)
        except redis.exceptions.ResponseError:
            wanted = ", ".join(f"{name} {value}" for name, value in _SAFE.items())
            return [f"Redis does not tell its settings; whoever runs it should see to {wanted}"]
    return weaknesses_of({_text(name): _text(value) for name, value in reply.items()})


def weaknesses_of(current: Mapping[str, str]) -> list[str]:
    """The same of settings that are known; those that are missing count as safe."""
    return [
        f"Redis has {name} {current[name]}, so {_LOSES[name]}: set {name} {safe}"
        for name, safe in _SAFE.items()
        if current.get(name, safe) != safe and (name != "appendfsync" or current.get("appendonly") == "yes")
    ]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
