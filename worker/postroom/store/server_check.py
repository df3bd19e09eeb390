"""Whether a Redis server can be used: its version, what its user may do, and whether it takes writes."""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import redis

from postroom.errors import Unavailable
from postroom.jobs.queues import HIGH_QUEUE, NORMAL_QUEUE
from postroom.store.functions import CODE, PREFIX, or_unavailable, run

OLDEST = 7  # the first major version with functions
_RIGHTS = 'docs/operations.md, "The user of Redis", has the rights that it needs'
_RESULT = "celery-task-meta-check"
# Arguments of commands that our functions call and whose first argument is no key.
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "DEL": (PREFIX,),
    "EXISTS": (PREFIX,),
    "UNLINK": (PREFIX,),
    "TIME": (),
    "PUBLISH": (_RESULT, ""),
    "XGROUP": ("CREATE", PREFIX, "group", "$"),
    "XINFO": ("GROUPS", PREFIX),
    "ZUNIONSTORE": (PREFIX, "1", PREFIX),
}
# What Celery and we call from outside of functions.
_OTHERS = (
    ("FUNCTION", "LOAD", "code"),
    ("FUNCTION", "LIST"),
    ("FUNCTION", "DELETE", "name"),
    ("EVAL", "code", "0"),
    ("EVALSHA", "sha", "0"),
    ("SCRIPT", "LOAD", "code"),
    ("SCRIPT", "EXISTS", "sha"),
    ("MULTI",),
    ("BRPOP", NORMAL_QUEUE, HIGH_QUEUE, "1"),
    ("LPUSH", NORMAL_QUEUE, "message"),
    ("LPUSH", HIGH_QUEUE, "message"),
    ("SADD", "_kombu.binding.postroom", "binding"),
    ("SMEMBERS", "_kombu.binding.postroom"),
    ("LLEN", "postroom@host.celery.pidbox"),  # where `celery inspect` asks
    ("LPUSH", "id.reply.celery.pidbox", "reply"),
    ("HSET", "unacked", "tag", "message"),
    ("ZADD", "unacked_index", "1", "tag"),
    ("SET", "unacked_mutex", "token"),
    ("GET", _RESULT),
    ("SET", _RESULT, "result"),
    ("DEL", _RESULT),
)


def redis_faults(client: "redis.Redis") -> list[str]:
    """What makes this Redis useless for Postroom, a sentence each, with what to do; else an empty list.

    Raises Unavailable where Redis is away, is full, or takes no writes for now.
    """
    version = _version(client)
    if version and int(version.partition(".")[0]) < OLDEST:
        return [f"POSTROOM_REDIS_URL: Postroom needs Redis {OLDEST}.0 or later; this is {version}"]
    try:
        refused = _refused(client)
    except Unavailable as error:
        if isinstance(error.__cause__, redis.exceptions.NoPermissionError):
            return [f"{error}; {_RIGHTS}"]
        raise
    if refused:
        return [f"Redis does not let its user {', '.join(refused)}; {_RIGHTS}"]
    with or_unavailable():
        client.setrange(f"{PREFIX}seq", 0, "")  # changes nothing, and is refused as every write is
    return []


def _version(client: "redis.Redis") -> str | None:
    with or_unavailable():
        try:
            server: Any = client.info("server")
        except redis.exceptions.ResponseError:
            return None  # its user may not ask
    return str(server["redis_version"])


def _refused(client: "redis.Redis") -> list[str]:
    """The commands that Redis refuses to its user, as Redis writes them."""
    commands = list(_commands())
    replies = run(client, "refused", None, *chain.from_iterable((len(command), *command) for command in commands))
    return [reply.decode() for reply in replies]


def _commands() -> Iterator[tuple[str, ...]]:
    """An example of each command that is called."""
    for name in sorted(set(re.findall(r"redis\.p?call\('([A-Z]+)'", CODE))):
        yield (name, *_ARGUMENTS.get(name, (PREFIX, "x", "x")))
    yield from _OTHERS
