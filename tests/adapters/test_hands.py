"""Celery's threads: a hand that is free is known to be."""

from collections.abc import Iterator
from queue import SimpleQueue

import pytest
from kombu.asynchronous import Hub, get_event_loop, set_event_loop

from postroom.hands import Hands


class Loop(Hub):
    """A hub whose loop nobody runs; tells when it is woken."""

    def __init__(self) -> None:
        super().__init__()
        self.woken: SimpleQueue[list[str]] = SimpleQueue()
        self.noted: list[str] = []

    def call_soon(self, callback: object, *_: object) -> None:
        self.woken.put(list(self.noted))


@pytest.fixture
def loop() -> Iterator[Loop]:
    before, loop = get_event_loop(), Loop()
    set_event_loop(loop)
    yield loop
    set_event_loop(before)
    loop.close()


def test_the_end_of_a_task_is_noted_and_then_wakes_celerys_loop(loop: Loop) -> None:
    hands = Hands(1)

    hands.on_apply(lambda: "done", (), {}, callback=loop.noted.append)

    assert loop.woken.get(timeout=5) == ["done"]
    hands.on_stop()


def test_the_loop_is_woken_where_the_end_could_not_be_noted(loop: Loop) -> None:
    def fail(_: object) -> None:
        raise OSError

    hands = Hands(1)

    hands.on_apply(lambda: "done", (), {}, callback=fail)

    assert loop.woken.get(timeout=5) == []
    hands.on_stop()
