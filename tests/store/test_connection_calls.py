"""Calls of functions over redis-py: each gets its own reply, whatever becomes of connections."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from postroom.store import embedded
from postroom.store.connection import connect


@pytest.fixture
def client(folder: Path) -> "Iterator[redis.Redis]":
    client = connect(f"embedded:{folder}/r", timeout_s=3, name="test-calls")
    client.function_load(
        "#!lua name=t\nredis.register_function('echo', function(_, arguments) return arguments end)", replace=True
    )
    yield client
    client.close()
    embedded.stop(folder / "r")


def ours(client: "redis.Redis") -> set[str]:
    return {found["id"] for found in client.client_list() if found["name"] == "test-calls"}


def test_a_call_uses_the_connection_that_the_last_one_gave_back(client: redis.Redis) -> None:
    client.fcall("echo", 0, "a")
    before = ours(client)

    assert [client.fcall("echo", 0, n) for n in "bcd"] == [[b"b"], [b"c"], [b"d"]]
    assert ours(client) == before


def test_a_call_on_a_connection_that_died_meanwhile_is_made_again(client: redis.Redis) -> None:
    client.fcall("echo", 0, "a")
    for found in ours(client):
        client.client_kill_filter(_id=found, skipme=False)

    assert client.fcall("echo", 0, "b") == [b"b"]


def test_a_call_that_redis_refuses_leaves_the_connection_whole(client: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError, match="Function not found"):
        client.fcall("nothing", 0)

    assert client.fcall("echo", 0, "b") == [b"b"]


def test_calls_from_many_threads_get_their_own_answers(client: redis.Redis) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda n: client.fcall("echo", 0, n), range(400))) == [
            [str(n).encode()] for n in range(400)
        ]


FORKING = """
import os, sys
from postroom.store.connection import connect

client = connect(sys.argv[1], timeout_s=3, name="test-calls")
client.fcall("echo", 0, "parent")
if os.fork() == 0:
    client.fcall("echo", 0, "child")
    print(len([found for found in client.client_list() if found["name"] == "test-calls"]), flush=True)
    os._exit(0)
os.wait()
assert client.fcall("echo", 0, "parent") == [b"parent"]
"""


def test_a_forked_process_calls_over_a_connection_of_its_own(client: redis.Redis, folder: Path) -> None:
    client.connection_pool.disconnect()

    said = subprocess.run(
        [sys.executable, "-c", FORKING, f"embedded:{folder}/r"], capture_output=True, text=True, timeout=30, check=True
    )

    assert int(said.stdout) >= 2
