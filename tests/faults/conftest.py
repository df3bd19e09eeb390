"""The mail room of the acceptance tests, for tests that break it."""

from ..acceptance.conftest import open_room, room

__all__ = ["open_room", "room"]
