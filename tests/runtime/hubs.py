"""What tests of fibers share: a hub, and a way to see what fibers return."""

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest

from postroom.runtime.fibers import Hub
from postroom.runtime.result import Result

SLOTS = 4


class Freed:
    """Counts fibers that have ended."""

    def __init__(self) -> None:
        self.count = threading.Semaphore(0)

    def __call__(self) -> None:
        self.count.release()

    def wait(self, times: int) -> None:
        for _ in range(times):
            assert self.count.acquire(timeout=10)


@pytest.fixture
def freed() -> Freed:
    return Freed()


@pytest.fixture
def hub(freed: Freed) -> Iterator[Hub]:
    hub = Hub(SLOTS, freed)
    yield hub
    hub.close()


def results(hub: Hub, *works: Callable[[], object]) -> "SimpleQueue[object]":
    """What these return or raise, each done by a fiber, in the order in which they end."""
    found: SimpleQueue[object] = SimpleQueue()
    for work in works:
        hub.start(lambda work=work: found.put(_result(work)))  # type: ignore[misc]
    return found


def _result(work: Callable[[], object]) -> object:
    result = Result.of(work)
    return result.error or result.value
