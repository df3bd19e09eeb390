"""One client may be used by threads, by coroutines and after a fork. On a real server."""

import asyncio
import os
import threading
from typing import Any

import pytest
import redis

from postroom import Client, Mail
from postroom.store.functions import PREFIX

SENDER = "noreply@contoso.com"


@pytest.fixture
def client(server: str, connection: "redis.Redis[bytes]", monkeypatch: pytest.MonkeyPatch) -> Client:
    assert connection.ping()
    monkeypatch.setenv("POSTROOM_REDIS_URL", server)
    monkeypatch.setenv("POSTROOM_SENDER", SENDER)
    return Client.from_env()


def mail(n: int) -> Mail:
    return Mail(to=[f"u{n}@contoso.com"], text=f"Hello {n}")


def recipients(connection: "redis.Redis[bytes]") -> int:
    return len(list(connection.scan_iter(PREFIX + "job:*", count=1000)))


def test_a_client_is_shared_by_more_threads_than_it_has_connections(
    client: Client, connection: "redis.Redis[bytes]"
) -> None:
    started, errors = threading.Barrier(100), list[BaseException]()

    def work(n: int) -> None:
        started.wait()
        try:
            for _ in range(3):
                client.send(mail(n), key=str(n))
        except Exception as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert recipients(connection) == 100
    assert client.find(limit=1), "what calls keep for the next ones leaves connections for other commands"


def test_a_client_made_and_used_before_a_fork_is_used_in_each_child(
    client: Client, connection: "redis.Redis[bytes]"
) -> None:
    first = client.send(mail(0), key="0").id
    children = []
    for n in range(1, 4):
        if (child := os.fork()) == 0:
            known = False
            try:
                for _ in range(20):
                    client.send(mail(n), key=str(n))
                known = client.status(first).id == first
            finally:
                os._exit(0 if known else 1)
        children.append(child)
    for _ in range(20):
        assert client.send(mail(0), key="0").id == first

    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    assert recipients(connection) == 4


def test_coroutines_send_side_by_side_in_threads(client: Client, connection: "redis.Redis[bytes]") -> None:
    async def send_all() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(client.send, mail(n), key=str(n % 20)) for n in range(20)))

    assert len({receipt.id for receipt in asyncio.run(send_all())}) == 20
    assert recipients(connection) == 20
