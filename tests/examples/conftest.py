"""One mail room for all examples."""

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from ..acceptance.conftest import Room, rooms


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    with rooms() as open_one:
        room = open_one()
        room.start_worker_process()
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
