"""What tests of the store share: a mail room, and a server that a test may break."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from postroom.store import embedded

from .room import OTHER, SENDER, Room


@pytest.fixture
def room(connection: "redis.Redis[bytes]") -> Room:
    room = Room(connection)
    room.quick(SENDER, OTHER)
    return room


@pytest.fixture
def own_server(folder: Path) -> Iterator[str]:
    """A server that a test may kill, freeze or fill up."""
    yield embedded.ensure(folder)
    embedded.stop(folder)
