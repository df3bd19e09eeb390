"""Celery's pool of threads, except that all rounds share one thread, as fibers (`fibers.py`)."""

import gc
from collections.abc import Callable
from typing import Any

from celery.concurrency.base import apply_target
from celery.concurrency.thread import TaskPool
from kombu.asynchronous import get_event_loop

from postroom.runtime.fibers import Hub

ROUND = "postroom.round"
# Allocations after which Python looks for cycles among new objects. With its default it does so every few mails, which
# takes a fifteenth of the CPU.
GC_THRESHOLD = 5000


class FiberPool(TaskPool):
    """Celery's `worker_pool`: a round runs as a fiber, any other task in a thread of its own, where it may block."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        gc.set_threshold(GC_THRESHOLD)
        self._hub = Hub(self.limit, _wake)

    @property
    def num_processes(self) -> int:
        """How many tasks Celery may give the pool at once: all slots that rounds have not filled by themselves."""
        return 1 if self._hub.is_busy else max(1, int(self.limit) - self._hub.invited)

    def on_stop(self) -> None:
        """Returns when all tasks that have begun are done."""
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
        """See `TaskPool`. Once a task has ended, and Celery was told, Celery's loop is woken."""
        if args and args[0] == ROUND:
            return self._hub.start(lambda: apply_target(target, args, kwargs, callback, accept_callback))

        def on_end(*results: Any, **facts: Any) -> None:
            try:
                if callback:
                    callback(*results, **facts)
            finally:
                _wake()

        return super().on_apply(target, args, kwargs, callback=on_end, accept_callback=accept_callback, **more)


def _wake() -> None:
    """Makes Celery look for the next message.

    With `worker_disable_prefetch` a worker takes a message only where a slot is free, and its loop checks that when
    something happens on its connections. A slot that becomes free is no such event, so without this a message would
    wait for up to a second.
    """
    if loop := get_event_loop():
        loop.call_soon(_no_op)


def _no_op() -> None:
    """What Celery's loop is woken for: having been woken, it looks by itself."""
