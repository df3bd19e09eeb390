"""One mail room for all examples."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from ..acceptance.conftest import Room, open_room


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    with contextmanager(open_room.__wrapped__)() as opened:  # type: ignore[attr-defined]
        room = opened()
        room.start_hands()
        yield room


@pytest.fixture
def example(room: Room, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports an example beside a mail room."""
    for name in ("POSTROOM_REDIS_URL", "POSTROOM_SENDER", "POSTROOM_TEMPLATES"):
        monkeypatch.setenv(name, room.environment[name])
    monkeypatch.setenv("SHOP_BROKER", room.redis_url.replace("unix://", "redis+socket://"))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))

    def load(name: str) -> ModuleType:
        sys.modules.pop(f"examples.{name}", None)
        return import_module(f"examples.{name}")

    return load
