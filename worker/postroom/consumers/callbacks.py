"""Pushes the tasks of `on_accepted` and `on_dead` to the queues of the producer's Celery workers."""

from postroom.consumers import Context, Entry, Handle
from postroom.store.journal import CallbackStream

NAME = "callbacks"
FAILED = "call.failed"


def stream_of(context: Context) -> CallbackStream:
    """A separate stream, because no entry may be dropped from it: each call was promised to a producer."""
    return context.callbacks


def consumer(context: Context) -> Handle:
    def push(entry: Entry) -> None:
        context.callbacks.push(NAME, entry)

    return push
