"""Fibers share one thread: while one waits, the others go on."""

import subprocess
import sys
import threading

import pytest

from postroom.runtime.fibers import Hub, await_callback, current_loop, invite, run_in_thread, sleep
from postroom.runtime.result import Result

from .hubs import SLOTS, Freed, freed, hub, results

__all__ = ["freed", "hub"]


def test_outside_of_fibers_everything_blocks() -> None:
    assert run_in_thread(lambda: 1) == 1
    assert await_callback(lambda callback: callback(Result(2))) == 2
    sleep(0)
    assert current_loop() is None
    with pytest.raises(KeyError):
        await_callback(lambda callback: callback(Result(error=KeyError())))
    invite(lambda: pytest.fail("there is no hub that could do it"))


def test_others_go_on_while_a_fiber_waits_for_a_thread(hub: Hub) -> None:
    first, second = threading.Event(), threading.Event()

    def wait_for_the_other() -> str:
        first.set()
        return "waited" if run_in_thread(lambda: second.wait(10)) else "never"

    found = results(hub, wait_for_the_other)
    assert first.wait(10)
    assert results(hub, lambda: second.set() or "meanwhile").get(timeout=10) == "meanwhile"

    assert found.get(timeout=10) == "waited"


def test_others_go_on_while_a_fiber_sleeps(hub: Hub) -> None:
    slept = results(hub, lambda: sleep(0.05))

    assert results(hub, lambda: "meanwhile").get(timeout=10) == "meanwhile"
    assert slept.get(timeout=10) is None


def test_a_call_in_a_thread_is_in_no_fiber_and_may_raise(hub: Hub) -> None:
    def nested() -> object:
        return run_in_thread(
            lambda: (threading.current_thread().name, run_in_thread(lambda: threading.current_thread().name))
        )

    name, inner = results(hub, nested).get(timeout=10)  # type: ignore[misc]

    assert name == inner == "postroom-blocking"
    assert isinstance(results(hub, lambda: run_in_thread(lambda: 1 / 0)).get(timeout=10), ZeroDivisionError)


def test_a_thread_that_is_free_is_used_again(hub: Hub) -> None:
    threads = [results(hub, lambda: run_in_thread(threading.get_ident)).get(timeout=10) for _ in range(20)]

    assert len(set(threads)) <= 2  # a fiber may go on before its thread counts as free


def test_a_callback_may_come_from_any_thread_or_at_once(hub: Hub) -> None:
    def from_a_thread() -> int:
        return await_callback(lambda callback: threading.Timer(0.01, callback, (Result(1),)).start())

    def at_once() -> int:
        return await_callback(lambda callback: callback(Result(2)))

    assert results(hub, from_a_thread).get(timeout=10) == 1
    assert results(hub, at_once).get(timeout=10) == 2


def test_a_fiber_that_sleeps_takes_no_thread(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)

    assert results(hub, lambda: sleep(0.01)).get(timeout=10) is None


def test_what_a_fiber_raises_ends_that_fiber_alone(hub: Hub, freed: Freed) -> None:
    hub.start(lambda: 1 / 0)

    freed.wait(1)
    assert results(hub, lambda: "goes on").get(timeout=10) == "goes on"


def test_as_many_fibers_are_invited_as_there_are_free_slots(hub: Hub, freed: Freed) -> None:
    came, may_leave = threading.Semaphore(0), threading.Event()

    def stay() -> None:
        came.release()
        run_in_thread(lambda: may_leave.wait(10))

    def invite_many() -> None:
        for _ in range(9):
            invite(stay)
        stay()

    hub.start(invite_many)
    for _ in range(SLOTS):
        assert came.acquire(timeout=10)
    assert hub.invited == SLOTS - 1

    may_leave.set()
    freed.wait(SLOTS)
    assert not came.acquire(blocking=False)
    assert hub.invited == 0


def test_a_hub_closes_when_the_last_fiber_has_ended(freed: Freed) -> None:
    hub = Hub(4, freed)
    begun, may_end = threading.Event(), threading.Event()
    ended: list[str] = []

    def work() -> None:
        begun.set()
        run_in_thread(lambda: may_end.wait(10))
        ended.append("fiber")

    def work_with_an_end() -> None:
        hub.on_close(lambda: ended.append("hub"))
        work()

    hub.start(work_with_an_end)
    assert begun.wait(10)
    closing = threading.Thread(target=hub.close)
    closing.start()
    may_end.set()
    closing.join(10)

    assert ended == ["fiber", "hub"]
    assert not closing.is_alive()


def test_a_fault_of_the_loop_itself_ends_the_process() -> None:
    """Else its fibers would never go on, and keep their claims."""
    code = """
from postroom.runtime.fibers import Hub

hub = Hub(1, lambda: None)
hub.call_soon(lambda: 1 / 0)
hub._thread.join(10)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 70
    assert "ZeroDivisionError" in ended.stderr
