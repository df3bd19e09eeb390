"""Celery's pool: rounds share one thread, other tasks have threads, and Celery's loop learns at once of a free slot."""

import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest
from kombu.asynchronous import Hub, get_event_loop, set_event_loop

from postroom.runtime.celery_pool import ROUND, FiberPool
from postroom.runtime.fibers import invite, run_in_thread


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
    pool = FiberPool(1)

    pool.on_apply(lambda: "done", (), {}, callback=loop.noted.append)

    assert loop.woken.get(timeout=5) == ["done"]
    pool.on_stop()


def test_the_loop_is_woken_where_the_end_could_not_be_noted(loop: Loop) -> None:
    def fail(_: object) -> None:
        raise OSError

    pool = FiberPool(1)

    pool.on_apply(lambda: "done", (), {}, callback=fail)

    assert loop.woken.get(timeout=5) == []
    pool.on_stop()


def test_a_round_runs_as_a_fiber_and_its_end_wakes_celerys_loop(loop: Loop) -> None:
    pool = FiberPool(1)

    pool.on_apply(lambda *_: threading.current_thread().name, (ROUND,), {}, callback=loop.noted.append)

    assert loop.woken.get(timeout=5) == ["postroom-fibers"]
    pool.on_stop()


def test_slots_of_rounds_that_were_invited_are_not_free_for_celery(loop: Loop) -> None:
    pool = FiberPool(3)
    came, may_leave = threading.Semaphore(0), threading.Event()

    def stay() -> None:
        came.release()
        run_in_thread(lambda: may_leave.wait(10))

    def invite_one_and_stay(*_: object) -> None:
        invite(stay)
        stay()

    assert pool.num_processes == 3
    pool.on_apply(invite_one_and_stay, (ROUND,), {})
    for _ in range(2):
        assert came.acquire(timeout=10)

    assert pool.num_processes == 2

    may_leave.set()
    for _ in range(2):
        loop.woken.get(timeout=5)
    assert pool.num_processes == 3
    pool.on_stop()


def test_the_pool_stops_when_its_rounds_are_over(loop: Loop) -> None:
    pool = FiberPool(1)
    begun, ended = threading.Event(), threading.Event()

    def work(*_: object) -> None:
        begun.set()
        run_in_thread(lambda: threading.Event().wait(0.05))
        ended.set()

    pool.on_apply(work, (ROUND,), {})
    assert begun.wait(10)
    pool.on_stop()

    assert ended.is_set()
