"""Runs the Lua scripts in `lua/`, and says in our words what Redis would not do.

Redis keeps them as one library of functions, compiled and ready; as scripts (EVALSHA) each call would begin with making
the hundred functions that they share, which takes half of its time. The library is named by its text, so those of
several versions stand side by side while workers are updated.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any, Protocol

import redis

from postroom.errors import PostroomError, Unavailable

PREFIX = "{postroom}:"


class Connection(Protocol):
    """A redis-py client that gives bytes."""

    def fcall(self, function: str, numkeys: int, *args: Any) -> Any: ...
    def function_load(self, code: str, replace: bool = ...) -> Any: ...
    def function_list(self, library: str = ...) -> Any: ...
    def function_delete(self, library: str) -> Any: ...
    def eval(self, script: str, numkeys: int, *args: Any) -> Any: ...
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
            return connection.fcall(_function(script), 0, *args)
        except redis.exceptions.ResponseError as error:
            if not _is_missing(error):
                raise
        try:
            connection.function_load(_library(), replace=True)
        except redis.exceptions.OutOfMemoryError:
            return connection.eval(_as_script(script), 0, *args)  # Redis is full, and this may make room
        return connection.fcall(_function(script), 0, *args)


def run_each(connection: Connection, script: str, now: int | None, given: Sequence[Sequence[object]]) -> list[Any]:
    """The answers of one script to each of several lists of arguments, in one round trip; others may come between."""

    def ask() -> list[Any]:
        pipe = connection.pipeline(transaction=False)
        for arguments in given:
            pipe.fcall(_function(script), 0, "" if now is None else now, *arguments)
        answers: list[Any] = pipe.execute(raise_on_error=False)
        return answers

    with or_unavailable():
        answers = ask()
        if any(map(_is_missing, answers)):
            connection.function_load(_library(), replace=True)
            answers = ask()
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


def forget_other_versions(connection: Connection) -> None:
    """Takes the libraries of other versions out of Redis; who still needs one loads it again."""
    with or_unavailable():
        names = [
            dict(zip(found[::2], found[1::2], strict=True))[b"library_name"].decode()
            for found in connection.function_list("postroom_*")
        ]
        for name in names:
            if re.fullmatch(r"postroom_[0-9a-f]{12}", name) and name != _name():
                connection.function_delete(name)


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
        if re.match("user_(function|script)", str(error)):
            raise PostroomError(f"a script failed, which is a fault of Postroom itself: {error}") from error
        raise Unavailable(f"Redis refused: {error}") from error


def _is_missing(answer: object) -> bool:
    return isinstance(answer, redis.exceptions.ResponseError) and str(answer) == "Function not found"


_SHARED = (
    "base", "status", "events", "holds", "trouble", "pace", "limits", "lane", "messages", "rounds", "content", "calls",
    "moves",
)  # fmt: skip
# Each in its parts, for some share more than that.
_SCRIPTS = {
    "stage": ("admit", "stage"),
    "take_in": ("admit", "intake", "given", "take_in"),
    "take_in_many": ("admit", "intake", "given", "take_in_many"),
    "claim": ("claim_next", "claim"),
    "mark": ("mark",),
    "note": ("note",),
    "settle": ("claim_next", "settle"),
    "tick": ("let_go", "patience", "tick"),
    "cancel": ("audit", "cancel"),
    "requeue": ("audit", "requeue"),
    "replace": ("audit", "intake", "replace"),
    "discard": ("audit", "discard"),
    "payload": ("payload",),
    "walk": ("walk",),
    "page": ("page",),
    "use_key": ("use_key",),
    "backlog": ("backlog",),
    "pause": ("pause",),
    "paused": ("said", "paused"),
    "hold": ("hold",),
    "release": ("let_go", "release"),
    "list_holds": ("said", "list_holds"),
    "probed": ("probed",),
    "publish": ("publish",),
    "mirror": ("mirror",),
    "results_due": ("results_due",),
    "result_due": ("result_due",),
    "result_stored": ("result_stored",),
}
# Refused when Redis is full; all else makes room.
_TAKING_IN = {"stage", "take_in", "take_in_many", "replace"}


@cache
def _text(*parts: str) -> str:
    folder = resources.files("postroom") / "lua"
    return "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in parts)


@cache
def _name() -> str:
    everything = _text(*_SHARED, *(part for parts in _SCRIPTS.values() for part in parts))
    return "postroom_" + hashlib.sha256(everything.encode()).hexdigest()[:12]


@cache
def _function(script: str) -> str:
    return f"{_name()}_{script}"


def _library() -> str:
    return "\n".join((f"#!lua name={_name()}", _text(*_SHARED), *map(_registered, _SCRIPTS)))


def _registered(script: str) -> str:
    flags = "" if script in _TAKING_IN else "'allow-oom'"
    return (
        f"redis.register_function{{function_name = '{_function(script)}', flags = {{{flags}}}, "
        f"callback = function(_, arguments)\nbegin(arguments)\n{_text(*_SCRIPTS[script])}\nend}}"
    )


def _as_script(script: str) -> str:
    return _alone(_text(*_SCRIPTS[script]), "" if script in _TAKING_IN else " flags=allow-oom")


def _alone(body: str, flags: str = " flags=allow-oom") -> str:
    """A script for EVAL, with all that they share."""
    return "\n".join((f"#!lua{flags}", "local given = ARGV", _text(*_SHARED), "begin(given)", body))
