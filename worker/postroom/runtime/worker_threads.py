"""Threads for work that blocks: a new one only where all others are busy."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from postroom.runtime.result import Callback, Result, Value


class WorkerThreads:
    """Runs calls in daemon threads, and reports each result to a callback, in that thread.

    Not a ThreadPoolExecutor, whose `submit` has queued the work already when it raises because no thread could be
    started: a request that was reported as failed could still be made by another thread.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Callable[[], Any], Callback[Any]] | None] = SimpleQueue()
        self._threads = self._free = 0
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], Value], callback: Callback[Value]) -> None:
        """Has the call made soon. RuntimeError where no thread can be started; then it is never made."""
        with self._lock:
            if self._free <= 0:
                threading.Thread(target=self._work, name="postroom-blocking", daemon=True).start()
                self._threads += 1
                self._free += 1
            self._free -= 1
        self._tasks.put((call, callback))

    def close(self) -> None:
        """Ends the threads once they have done what was submitted. Does not wait for that."""
        for _ in range(self._threads):
            self._tasks.put(None)

    def _work(self) -> None:
        while task := self._tasks.get():
            call, callback = task
            result = Result.of(call)
            with self._lock:
                self._free += 1
            callback(result)
            del task, call, callback, result  # a thread that waits must keep nothing alive
