"""Celery's pool of threads, which says when a hand is free.

Where a worker takes no more messages than it has hands (`worker_disable_prefetch`), Celery's loop looks for the next
one when something happens on its connections. The end of a task in a thread is nothing of that kind, so a free hand
would wait for up to a second.
"""

from collections.abc import Callable
from typing import Any

from celery.concurrency.thread import TaskPool
from kombu.asynchronous import get_event_loop


class Hands(TaskPool):
    """`worker_pool` for threads."""

    def on_apply(self, target: Any, *given: Any, callback: Callable[..., Any] | None = None, **more: Any) -> Any:
        """See `TaskPool`; the loop is woken once the task's end is known to it."""

        def ended(*said: Any, **facts: Any) -> None:
            try:
                if callback:
                    callback(*said, **facts)
            finally:
                if loop := get_event_loop():
                    loop.call_soon(_look)

        return super().on_apply(target, *given, callback=ended, **more)


def _look() -> None:
    """Nothing: to be woken is enough."""
