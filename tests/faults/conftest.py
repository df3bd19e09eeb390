"""The mail room of the acceptance tests, for tests that break it."""

from ..acceptance.conftest import module_room, open_room, room

__all__ = ["module_room", "open_room", "room"]
