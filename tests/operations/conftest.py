"""Fixtures for tests of people's actions: a ledger with its own clock, and its dead letters."""

import pytest

from postroom.operations.dead_letters import DeadLetters
from postroom.store.ledger import Ledger

from ..store.conftest import room
from ..store.room import Room

__all__ = ["room"]


@pytest.fixture
def letters(room: Room) -> DeadLetters:
    return DeadLetters(Ledger(room.redis))
