"""The consumers of the journal. Each module in this package is one; no list has to name it.

A module has `KINDS`, the kinds of entries that it wants, and `consumer(context)`. This returns the function that is
called with each entry, or None if this worker does not need the consumer. The consumer has the module's name. If the
call raises, the entry is given again, first after half a minute. So the call is made at least once for each entry, and
must tolerate a repetition.
"""

import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from threading import Event
from typing import NamedTuple

from postroom.errors import PostroomError, Unavailable
from postroom.runtime.failpoints import Failpoint, hit
from postroom.settings.model import Settings
from postroom.store.journal import CallbackStream, Entry, Journal, Stream
from postroom.telemetry.events import Emit
from postroom.telemetry.redaction import place_of

Handle = Callable[[Entry], None]

__all__ = ["Consumer", "Context", "Entry", "Handle", "consume", "consume_for_ever", "consumer_of", "names"]

LONGEST_WAIT_S = 1.0
_MOST = 100  # entries at once


class Context(NamedTuple):
    """The objects that a consumer may use."""

    journal: Journal
    callbacks: CallbackStream
    settings: Settings
    emit: Emit


class Consumer(NamedTuple):
    """An active consumer: it reads `stream` under this name. `failed` is the log event for an entry that failed."""

    name: str
    stream: Stream
    handle: Handle
    failed: str


def names() -> Iterator[str]:
    """The names of all consumers."""
    return (module.name for module in pkgutil.iter_modules(__path__))


def consumer_of(name: str, context: Context) -> Consumer | None:
    """Subscribes the consumer and returns it; if it is not needed here, unsubscribes it and returns None.

    Raises Unavailable.
    """
    source = import_module(f"{__name__}.{name}")
    handle: Handle | None = source.consumer(context)
    if handle is None:
        context.journal.unsubscribe(name)
        return None
    stream: Stream = source.stream_of(context) if hasattr(source, "stream_of") else context.journal
    if isinstance(stream, Journal):
        stream.subscribe(name, source.KINDS)
    else:
        stream.restore(name)
    stream.forget_readers(name)
    return Consumer(name, stream, handle, getattr(source, "FAILED", "consumer.failed"))


def consume_for_ever(name: str, context: Context, stop: Event, longest_s: float = LONGEST_WAIT_S) -> None:
    """Gives a consumer its entries of the journal until `stop` is set; returns at once if it is not needed here.

    No error ends it.
    """
    consumer = None
    while not stop.is_set():
        try:
            consumer = consumer or consumer_of(name, context)
            if consumer is None:
                return
            consume(consumer, stop, context.emit, longest_s)
        except Unavailable:  # as the tick says each second
            stop.wait(longest_s)
        except Exception as error:  # noqa: BLE001 - the next try may succeed
            context.emit("consumer.failed", consumer=name, error=place_of(error))
            stop.wait(longest_s)


def consume(consumer: Consumer, stop: Event, emit: Emit, wait_s: float) -> int:
    """Waits up to this long for entries, and handles those that are due. Returns their number. Raises Unavailable."""
    name, stream, *_ = consumer
    entries = stream.retry(name, _MOST)
    entries += stream.read(name, _MOST, 0.0 if entries else wait_s)
    handled = [entry.id for entry in entries if not stop.is_set() and _is_handled(consumer, entry, emit)]
    if handled:
        hit(Failpoint.CONSUMED)
    stream.acknowledge(name, handled)
    return len(handled)


def _is_handled(consumer: Consumer, entry: Entry, emit: Emit) -> bool:
    try:
        consumer.handle(entry)
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the entry is given again
        why = str(error) if isinstance(error, PostroomError) else place_of(error)
        emit(consumer.failed, consumer=consumer.name, job=entry.job_id, tries=entry.tries, error=why)
        return False
    return True
