"""Runs the Lua scripts in `lua/`, and says in our words what Redis would not do.

They are one library of Redis functions (https://redis.io/docs/latest/develop/programmability/functions-intro/), which
whoever first finds it missing loads.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

import redis

from postroom.errors import PostroomError, Unavailable
from postroom.store import constants

Answer = TypeVar("Answer")

PREFIX = constants.PREFIX
_NAME = "postroom_"


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
    @property
    def connection_pool(self) -> Any: ...


def run(connection: Connection, script: str, now: int | None, *arguments: object) -> Any:
    """The answer of one script. `now` is in milliseconds; None means Redis' own clock. Raises Unavailable."""
    given = ("" if now is None else now, *arguments)
    try:
        return connection.fcall(LIBRARY + script, 0, *given)
    except (redis.exceptions.RedisError, OSError) as error:
        with or_unavailable():
            return _run_nevertheless(connection, script, given, error)


def _run_nevertheless(connection: Connection, script: str, given: Sequence[object], error: Exception) -> Any:
    """What it says once the library is loaded, if that is all that was wrong; raises the error, if not."""

    def ask() -> Any:
        return connection.fcall(LIBRARY + script, 0, *given)

    try:
        return _loaded(connection, ask, error)
    except redis.exceptions.OutOfMemoryError:
        if script in _TAKES_ROOM:
            raise
        return connection.eval(_alone(script), 0, *given)  # a full Redis takes no library, and this may make room


def run_each(connection: Connection, script: str, now: int | None, given: Sequence[Sequence[object]]) -> list[Any]:
    """The answers of one script to each of several lists of arguments, in one round trip; others may come between."""

    def ask() -> list[Any]:
        pipe = connection.pipeline(transaction=False)
        for arguments in given:
            pipe.fcall(LIBRARY + script, 0, "" if now is None else now, *arguments)
        answers: list[Any] = pipe.execute()
        return answers

    with or_unavailable():
        try:
            return ask()
        except redis.exceptions.ResponseError as error:
            return _loaded(connection, ask, error)


def in_one(calls: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """The arguments with which `fcall` says what it would to each of these: a list of answers and ResponseErrors.

    That costs Redis less than a pipeline of them.
    """
    named = [(function.removeprefix(LIBRARY), len(given), *given) for function, _, *given in calls]
    return (f"{LIBRARY}each", 0, "", *chain.from_iterable(named))


def drop_other_libraries(connection: Connection) -> None:
    """Removes what other versions have loaded. Where one of them is at work still, it loads its own again."""
    with or_unavailable():
        for found in connection.function_list(f"{_NAME}*"):
            name = dict(zip(found[::2], found[1::2], strict=True))[b"library_name"].decode()
            if name != LIBRARY:
                with suppress(redis.exceptions.ResponseError):  # somebody else removed it
                    connection.function_delete(name)


def _loaded(connection: Connection, ask: Callable[[], Answer], error: Exception) -> Answer:
    """What is answered once the library is loaded; `error` came without, and is raised if it is another."""
    if "Function not found" not in str(error):
        raise error
    connection.function_load(_TEXT, replace=True)
    return ask()


@contextmanager
def or_unavailable() -> Iterator[None]:
    """Turns what redis-py raises into Unavailable."""
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        raise _in_our_words(error) from error


def _in_our_words(error: Exception) -> PostroomError:
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return Unavailable("Redis is full (maxmemory) and refused the write; nothing was taken in")
    if isinstance(error, redis.exceptions.AuthenticationError):
        return Unavailable(f"Redis refused the name or password of POSTROOM_REDIS_URL ({_cause(error)})")
    if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError | OSError):
        return Unavailable(f"Redis did not answer ({_cause(error)}); is POSTROOM_REDIS_URL right?")
    if str(error).startswith(("user_function", "user_script")):
        return PostroomError(f"a script failed, which is a fault of Postroom itself: {error}")
    # It quotes the arguments of a command that it does not know.
    return Unavailable(f"Redis refused: {str(error).partition(', with args')[0]}")


def _cause(error: Exception) -> str:
    """redis-py's words: they name host and port, and no login."""
    return re.sub(r"^Error -?\d+ ", "", str(error)).rstrip(".") or type(error).__name__


# The modules in lua/lib/, in an order in which each needs only those before it. (One call goes the other way: what
# record.lua calls as `bury_damaged` is set by damaged_records.lua, which needs nearly all others.)
MODULES = (
    "constants", "keys", "call", "values", "events", "record", "indexes", "config", "states", "celery_result",
    "status", "person_holds", "pauses", "fault_holds", "failures", "pace", "rate_limits", "recipient_limits",
    "upload_limits", "verdicts", "slots", "scheduling", "celery_message", "dispatch", "content", "callbacks", "journal",
    "attempts", "transitions", "drafts", "ending", "damaged_records", "settlement", "claiming", "rounds", "admission",
    "intake", "mail_arguments", "audit", "releasing", "overdue", "lane_changes", "timed_sets", "leases", "sweeping",
    "workers", "functions",
)  # fmt: skip
# Only these are refused when Redis is full; the rest makes room.
_TAKES_ROOM = {"stage", "take_in", "take_in_many", "replace"}

_FOLDER = Path(__file__).parent / "lua"


def parts() -> Iterator[tuple[Path | None, str]]:
    """The pieces of the library's code, in order: the file that one comes from, and its text as it stands there."""
    yield None, constants.as_lua()
    for name in MODULES:
        file = _FOLDER / "lib" / f"{name}.lua"
        text = file.read_text(encoding="utf-8")
        returns_itself = text.endswith("return M\n")
        yield None, f"local {name} = (function()\n" if returns_itself else "do\n"
        yield file, text
        yield None, "end)()\n" if returns_itself else "end\n"
    for file in sorted(_FOLDER.glob("functions/*/*.lua")):
        flags = "" if file.stem in _TAKES_ROOM else "'allow-oom'"
        yield None, f"functions.register('{file.stem}', {{{flags}}}, (function()\n"
        yield file, file.read_text(encoding="utf-8")
        yield None, "end)())\n"


def library(code: str) -> tuple[str, str]:
    """A library's text for Redis, and what its functions' names begin with: other code has another name.

    Functions, not scripts, because a script makes all that it shares with others anew each time it is run: 180 of the
    310 µs that a small one took.
    """
    prefix = f"{_NAME}{hashlib.sha256(code.encode()).hexdigest()[:12]}_"
    return f"#!lua name={prefix}\nlocal LIBRARY = '{prefix}'\n{code}", prefix


def _alone(function: str) -> str:
    """One function as a script that needs no library."""
    return f"""#!lua flags=allow-oom
        local given, wanted = ARGV, nil
        local function register_function(it) if it.function_name == '{LIBRARY}{function}' then wanted = it end end
        local redis = setmetatable({{register_function = register_function}}, {{__index = redis}})
        local LIBRARY = '{LIBRARY}'
        {CODE}
        return wanted.callback({{}}, given)"""


CODE = "".join([text for _, text in parts()])
_TEXT, LIBRARY = library(CODE)
