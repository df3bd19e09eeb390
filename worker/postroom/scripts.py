"""Runs the Lua scripts in `lua/`, and says in our words what Redis would not do."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, Protocol

import redis

from postroom.errors import PostroomError, Unavailable

PREFIX = "{postroom}:"


class Connection(Protocol):
    """A redis-py client that gives bytes."""

    def evalsha(self, sha: str, numkeys: int, *args: Any) -> Any: ...
    def script_load(self, script: str) -> Any: ...
    def hget(self, name: str, key: str) -> Any: ...
    def hgetall(self, name: str) -> Any: ...
    def hmget(self, name: str, keys: list[str]) -> Any: ...
    def zrange(self, name: str, start: int, end: int) -> Any: ...
    def zrem(self, name: str, *values: str) -> Any: ...
    def zincrby(self, name: str, amount: float, value: str) -> Any: ...
    def pipeline(self, transaction: bool = ...) -> Any: ...


def run(connection: Connection, script: str, now: int | None, *arguments: object) -> Any:
    """The answer of one script. `now` is in milliseconds; None means Redis' own clock. Raises Unavailable."""
    args = ("" if now is None else now, *arguments)
    with or_unavailable():
        try:
            return connection.evalsha(_SHAS[script], 0, *args)
        except redis.exceptions.NoScriptError:
            connection.script_load(_SCRIPTS[script])
            return connection.evalsha(_SHAS[script], 0, *args)


def run_each(connection: Connection, script: str, now: int | None, given: Sequence[Sequence[object]]) -> list[Any]:
    """The answers of one script to each of several lists of arguments, in one round trip; others may come between."""

    def ask() -> list[Any]:
        pipe = connection.pipeline(transaction=False)
        for arguments in given:
            pipe.evalsha(_SHAS[script], 0, "" if now is None else now, *arguments)
        answers: list[Any] = pipe.execute()
        return answers

    with or_unavailable():
        try:
            return ask()
        except redis.exceptions.NoScriptError:
            connection.script_load(_SCRIPTS[script])
            return ask()


@contextmanager
def or_unavailable() -> Iterator[None]:
    """Turns what redis-py raises into Unavailable."""
    try:
        yield
    except redis.exceptions.OutOfMemoryError as error:
        raise Unavailable("Redis is full (maxmemory) and refused the write; nothing was taken in") from error
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        raise Unavailable(f"Redis did not answer ({type(error).__name__}); is POSTROOM_REDIS_URL right?") from error
    except redis.exceptions.RedisError as error:
        if str(error).startswith("user_script"):
            raise PostroomError(f"a script failed, which is a fault of Postroom itself: {error}") from error
        raise Unavailable(f"Redis refused: {error}") from error


def _load(*names: str, flags: str = " flags=allow-oom") -> str:
    """A script: what all share, and its own. Only take-in is refused when Redis is full; the rest makes room."""
    folder = resources.files("postroom") / "lua"
    shared = ("base", "status", "events", "holds", "trouble", "pace", "limits", "lane", "messages", "rounds")
    parts = (*shared, "content", "calls", "moves", *names)
    return "\n".join((f"#!lua{flags}", *((folder / f"{part}.lua").read_text(encoding="utf-8") for part in parts)))


_SCRIPTS = {
    "stage": _load("admit", "stage", flags=""),
    "take_in": _load("admit", "intake", "given", "take_in", flags=""),
    "take_in_many": _load("admit", "intake", "given", "take_in_many", flags=""),
    "claim": _load("claim_next", "claim"),
    "mark": _load("mark"),
    "note": _load("note"),
    "settle": _load("claim_next", "settle"),
    "tick": _load("let_go", "patience", "tick"),
    "cancel": _load("audit", "cancel"),
    "requeue": _load("audit", "requeue"),
    "replace": _load("audit", "intake", "replace", flags=""),
    "discard": _load("audit", "discard"),
    "payload": _load("payload"),
    "walk": _load("walk"),
    "page": _load("page"),
    "use_key": _load("use_key"),
    "backlog": _load("backlog"),
    "pause": _load("pause"),
    "paused": _load("said", "paused"),
    "hold": _load("hold"),
    "release": _load("let_go", "release"),
    "list_holds": _load("said", "list_holds"),
    "probed": _load("probed"),
    "publish": _load("publish"),
    "mirror": _load("mirror"),
    "results_due": _load("results_due"),
    "result_due": _load("result_due"),
    "result_stored": _load("result_stored"),
}
_SHAS = {name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in _SCRIPTS.items()}
