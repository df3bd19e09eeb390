"""A Redis that Postroom cannot use is named before mail flows: version, rights of its user, whether it takes writes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from postroom.errors import Unavailable
from postroom.jobs.job import Status
from postroom.store.server_check import redis_faults
from tests.docs.pages import ROOT

from .room import ACCEPTED, SENDER, Room

# As docs/operations.md gives it.
RIGHTS = re.search(r"ACL SETUSER postroom on >\S+ (.+)\n", (ROOT / "docs/operations.md").read_text(encoding="utf-8"))
USUAL = "~* +@all"  # Redis 7 gives a new user no channels


@pytest.fixture
def as_user(own_server: str) -> Iterator[Any]:
    """Gives a client of a user with these rights."""
    clients = [redis.Redis.from_url(own_server)]

    def client(rights: str) -> "redis.Redis[bytes]":
        clients[0].execute_command("ACL", "SETUSER", "postroom", "reset", "on", ">secret", *rights.split())
        clients.append(redis.Redis.from_url(own_server, username="postroom", password="secret"))
        return clients[-1]

    yield client
    for one in clients:
        one.close()


def test_the_rights_on_the_page_are_enough(as_user: Any) -> None:
    assert RIGHTS
    assert redis_faults(as_user(RIGHTS[1])) == []


@pytest.mark.parametrize(
    ("rights", "refused"),
    [
        (USUAL, "PUBLISH celery-task-meta-check"),
        ("~{postroom}:* &* +@all", "BRPOP postroom, LPUSH postroom"),
        ("~* &* +@all -zadd -function", "FUNCTION LOAD"),
        ("~* &* +@all -@scripting", "fcall"),
        ("~* &* +@all -zunionstore", "ZUNIONSTORE {postroom}:"),
    ],
)
def test_what_redis_does_not_let_its_user_do_is_named(as_user: Any, rights: str, refused: str) -> None:
    if "-function" in rights:
        assert redis_faults(as_user("~* &* +@all")) == []  # the library is there
    (fault,) = redis_faults(as_user(rights))

    assert refused in fault
    assert "The user of Redis" in fault


def test_a_user_without_channels_does_not_keep_an_outcome_from_being_recorded(as_user: Any) -> None:
    room = Room(as_user(USUAL))
    room.quick(SENDER)
    job_id = room.take()

    assert room.settle(room.sending(), ACCEPTED)

    assert room.read(job_id).status is Status.ACCEPTED


def test_an_older_redis_is_named_with_its_version(own_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with redis.Redis.from_url(own_server) as client:
        monkeypatch.setattr(client, "info", lambda _: {"redis_version": "6.2.14"})
        assert redis_faults(client) == ["POSTROOM_REDIS_URL: Postroom needs Redis 7.0 or later; this is 6.2.14"]


def test_a_redis_that_takes_no_writes_is_unavailable(own_server: str, folder: Path) -> None:
    with redis.Redis.from_url(own_server) as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(Unavailable, match="full"):
            redis_faults(client)
        client.config_set("maxmemory", 0)
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(Unavailable, match="read only"):
            redis_faults(client)
