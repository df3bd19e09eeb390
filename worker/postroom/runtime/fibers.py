"""Fibers: many pieces of work share one thread, and where one waits the others go on.

A fiber is a greenlet (https://greenlet.readthedocs.io): plain code that switches to an asyncio event loop where it
waits. Threads instead take more CPU: a mail waits three times, each wait puts a thread to sleep, and the interpreter
passes from thread to thread.

So a fiber may wait only by the functions below and by `BatchingRedis`. Called outside of a fiber, they block.
"""

import asyncio
import os
import threading
import time
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, cast

from greenlet import getcurrent, greenlet

from postroom.runtime.result import Callback, Result, Value
from postroom.runtime.worker_threads import WorkerThreads

# So many fibers may wait for their turn at Redis. Further ones would only wait longer, behind them.
MOST_QUEUED = 4


class Fiber(greenlet):
    """A greenlet that belongs to a hub."""

    hub: "Hub"


def current_fiber() -> Fiber | None:
    """The fiber that calls this, if it is one that does."""
    fiber = getcurrent()
    return fiber if isinstance(fiber, Fiber) else None


def current_hub() -> "Hub | None":
    """The hub of the fiber that calls this; None outside of fibers."""
    fiber = current_fiber()
    return fiber.hub if fiber else None


def current_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of the fiber that calls this; None outside of fibers."""
    hub = current_hub()
    return hub.loop if hub else None


def invite(work: Callable[[], object]) -> None:
    """Has another fiber of the same hub do this, if a slot is free. Otherwise, and outside of fibers, nobody does."""
    if hub := current_hub():
        hub.invite(work)


def await_callback(start: Callable[[Callback[Value]], None]) -> Value:
    """Calls `start` with a callback, waits until any thread has called that, and gives its value or raises its error.

    `start` must return at once, and the callback must be called exactly once.
    """
    if fiber := current_fiber():
        return fiber.hub.await_callback(fiber, start)
    results: SimpleQueue[Result[Value]] = SimpleQueue()
    start(results.put)
    return results.get().get()


def run_in_thread(call: Callable[[], Value]) -> Value:
    """What `call` returns or raises. It may block, and runs in another thread, where it should have a time limit.

    RuntimeError where no thread can be started. Outside of fibers this just makes the call.
    """
    fiber = current_fiber()
    return fiber.hub.run_in_thread(fiber, call) if fiber else call()


def sleep(seconds: float) -> None:
    """Waits for so long."""
    if fiber := current_fiber():
        fiber.hub.sleep(fiber, seconds)
    else:
        time.sleep(seconds)


class Hub:
    """A thread with an event loop, in which up to `slots` fibers work at once.

    `on_free` is called there each time a fiber has ended.
    """

    def __init__(self, slots: int, on_free: Callable[[], None]) -> None:
        self._slots, self._on_free = slots, on_free
        self.invited = 0  # fibers at work that other fibers have invited
        self._started = 0  # all other fibers at work
        self.queued_calls = 0  # fibers that wait for their turn at Redis; `BatchingRedis` counts them
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_end_process)
        self.threads = WorkerThreads()
        self._on_close: list[Callable[[], object]] = []
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="postroom-fibers", daemon=True)
        self._thread.start()

    def start(self, work: Callable[[], object]) -> None:
        """Has a fiber do this; what it raises is dropped. From any thread."""
        self.loop.call_soon_threadsafe(self._start, work)

    def invite(self, work: Callable[[], object]) -> None:
        """Has a further fiber do this, if a slot is free. From a fiber of this hub."""
        if self.invited + self._started < self._slots and not self.is_busy:
            self.invited += 1
            self.loop.call_soon(self._start_invited, work)

    @property
    def is_busy(self) -> bool:
        """Whether more fibers would only wait longer for Redis."""
        return self.queued_calls >= MOST_QUEUED

    def on_close(self, call: Callable[[], object]) -> None:
        """Has this called, in the hub's thread, when the hub has closed. From a fiber of this hub."""
        self._on_close.append(call)

    def close(self) -> None:
        """Returns when the last fiber has ended, and with it the thread. From any other thread."""
        self.loop.call_soon_threadsafe(self._close)
        self._thread.join()
        self.threads.close()

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Has this called by the loop. From any thread; in the loop's own it costs no wake-up."""
        if threading.get_ident() == self._thread.ident:
            self.loop.call_soon(callback, *arguments)
        else:
            self.loop.call_soon_threadsafe(callback, *arguments)

    def await_callback(self, fiber: Fiber, start: Callable[[Callback[Value]], None]) -> Value:
        """See the function of this name."""
        start(lambda result: self.call_soon(fiber.switch, result))
        return cast("Value", self.wait())

    def run_in_thread(self, fiber: Fiber, call: Callable[[], Value]) -> Value:
        """See the function of this name."""
        self.threads.submit(call, lambda result: self.loop.call_soon_threadsafe(fiber.switch, result))
        return cast("Value", self.wait())

    def sleep(self, fiber: Fiber, seconds: float) -> None:
        """See the function of this name."""
        self.loop.call_later(seconds, fiber.switch, Result())
        self.wait()

    def wait(self) -> Any:
        """Lets others go on until somebody switches to this fiber with a Result; returns its value or raises."""
        result: Result[Any] = self._main.switch()
        return result.get()

    def _run(self) -> None:
        try:
            self._main = getcurrent()
            self.loop.run_forever()
            for call in self._on_close:
                call()
            self.loop.close()
        except BaseException as error:  # noqa: BLE001 - see _end_process
            _end_process(self.loop, {"exception": error})

    def _start(self, work: Callable[[], object]) -> None:
        self._started += 1

        def work_and_end() -> None:
            Result.of(work)
            self._started -= 1
            self._end_fiber()

        self._switch_to_new(work_and_end)

    def _start_invited(self, work: Callable[[], object]) -> None:
        def work_and_end() -> None:
            Result.of(work)
            self.invited -= 1
            self._end_fiber()

        self._switch_to_new(work_and_end)

    def _switch_to_new(self, work: Callable[[], None]) -> None:
        fiber = Fiber(work)
        fiber.hub = self
        fiber.switch()

    def _end_fiber(self) -> None:
        Result.of(self._on_free)
        self._stop_if_done()

    def _close(self) -> None:
        self._is_open = False
        self._stop_if_done()

    def _stop_if_done(self) -> None:
        if not (self._is_open or self._started or self.invited):
            self.loop.call_soon(self.loop.stop)  # after all that was put in before


def _end_process(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Ends a process whose loop had an error, which is a fault of ours.

    Fibers that nobody resumes would keep their claims; the supervisor starts a new process.
    """
    traceback.print_exception(context.get("exception") or RuntimeError(context.get("message")))
    os._exit(os.EX_SOFTWARE)
