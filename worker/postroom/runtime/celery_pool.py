"""Celery's pool of threads, in which all rounds are made in one thread by turns (`together.py`)."""

import gc
from collections.abc import Callable
from typing import Any

from celery.concurrency.base import apply_target
from celery.concurrency.thread import TaskPool
from kombu.asynchronous import get_event_loop

from postroom.runtime.fibers import Hub

ROUND = "postroom.round"
# Else Python looks for cycles among the objects of each few mails more: a fifteenth of the CPU.
MOST_MADE = 5000


class FiberPool(TaskPool):
    """`worker_pool` for threads. Tasks other than rounds may wait for anything, and get a thread each."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        gc.set_threshold(MOST_MADE)
        self._hub = Hub(self.limit, _wake)

    @property
    def num_processes(self) -> int:
        """How many tasks Celery may have at once. Hands that rounds have invited are not free for it."""
        return 1 if self._hub.is_busy else max(1, int(self.limit) - self._hub.invited)

    def on_stop(self) -> None:
        """See `TaskPool`: waits for all that has begun."""
        self._hub.close()
        super().on_stop()

    def on_apply(
        self,
        target: Any,
        args: Any = (),
        kwargs: Any = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **more: Any,
    ) -> Any:
        """See `TaskPool`; Celery's loop is woken once the task's end is known to it."""
        if args and args[0] == ROUND:
            return self._hub.start(lambda: apply_target(target, args, kwargs, callback, accept_callback))

        def ended(*said: Any, **facts: Any) -> None:
            try:
                if callback:
                    callback(*said, **facts)
            finally:
                _wake()

        return super().on_apply(target, args, kwargs, callback=ended, accept_callback=accept_callback, **more)


def _wake() -> None:
    """Has Celery look for the next message.

    Where a worker takes no more of them than it has hands (`worker_disable_prefetch`), its loop looks for one when
    something happens on its connections. That a hand is free is nothing of that kind, so it would wait for up to a
    second.
    """
    if loop := get_event_loop():
        loop.call_soon(_look)


def _look() -> None:
    """Nothing: to be woken is enough."""
