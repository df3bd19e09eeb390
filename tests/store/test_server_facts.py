"""What a real server says of itself."""

from collections.abc import Iterator

import pytest
import redis

from postroom.errors import Unavailable
from postroom.store.server_facts import server_facts


@pytest.fixture
def user(connection: "redis.Redis[bytes]") -> Iterator[str]:
    """A user who may not read the server's settings."""
    connection.execute_command(
        "ACL", "SETUSER", "less", "on", ">pw", "~*", "+@read", "+ping", "+time", "+info", "+client"
    )
    yield "less"
    connection.execute_command("ACL", "DELUSER", "less")


def test_the_server_tells_its_facts(connection: "redis.Redis[bytes]", server: str) -> None:
    facts = server_facts(connection, server)

    assert facts.version
    assert facts.settings is not None
    assert facts.settings["appendonly"] == "yes"
    assert facts.settings["maxmemory-policy"] == "noeviction"
    assert (facts.role, facts.maxmemory, facts.others, facts.sentinels) == ("master", None, (), None)
    assert facts.used_memory is not None
    assert facts.ahead_s is not None
    assert abs(facts.ahead_s) < 60


def test_a_user_with_less_rights_is_told_what_info_has(
    connection: "redis.Redis[bytes]", server: str, user: str
) -> None:
    with redis.Redis.from_url(server, username=user, password="pw") as less:
        facts = server_facts(less, server)
    assert facts.settings == {"appendonly": "yes", "maxmemory-policy": "noeviction"}


def test_keys_of_others_are_told_by_their_beginnings(connection: "redis.Redis[bytes]", server: str) -> None:
    for key in ("cart:17", "cart:18", "session-9", "{postroom}:seq", "celery-task-meta-1", "unacked", "postroom.high"):
        connection.set(key, "x")
    assert server_facts(connection, server).others == ("cart", "session")


def test_a_server_that_is_away_is_unavailable() -> None:
    with redis.Redis(port=1) as away, pytest.raises(Unavailable):
        server_facts(away, "redis://127.0.0.1:1")
