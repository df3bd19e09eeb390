"""Writes events as log lines: as JSON for programs, or in a form for people."""

import json
import logging
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TextIO, cast

import structlog

from postroom.telemetry.events import Emit
from postroom.telemetry.redaction import place_of

# Events that are warnings: an operator should look at them. All others are information.
WRONG = {
    "mail.dead",
    "mail.left",
    "call.failed",
    "certificate.failed",
    "consumer.failed",
    "journal.dropped",
    "round.failed",
    "tick.failed",
    "results.failed",
    "claim.lost",
    "mail.unrecorded",
    "worker.died",
    "worker.waiting",
    "hold.started",
    "app.unreachable",
    "app.unusable",
    "credential.expiring",
    "hold.overdue",
    "probe.failed",
    "send.waiting",
    "settings.published",
    "workers.differ",
    "message.dropped",
    "smtp.failed",
    "api.failed",
    "event.unmatched",
}


_JSON = json.JSONEncoder(default=repr)  # made once; json.dumps would make one for each line


class Loop(Protocol):
    """What the log needs of an asyncio event loop."""

    def call_soon(self, callback: Callable[..., object], /, *arguments: Any) -> object: ...
    def call_later(self, delay: float, callback: Callable[..., object], /, *arguments: Any) -> object: ...


PIECE = 4000  # bytes that a pipe takes without blocking, if it is writable at all (PIPE_BUF)
MOST_KEPT = 1_000_000  # characters that wait to be written; if there are more, the oldest lines are dropped
AGAIN_S = 0.1


class _Lines:
    """A file for log lines. Write errors are ignored, because a broken log must not stop mail."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the disk is full, the reader has gone, or the file is closed
            self._file.write(text)
            self._file.flush()

    def flush(self) -> None:
        """Does nothing: each `write` flushes."""


class _LinesOfLoop(_Lines):
    """The same for threads with an event loop. It never blocks: text that the reader does not take is written later.

    All lines of one turn of the loop are written together, because each write costs as much as making a line.
    """

    def __init__(self, file: TextIO, loop_here: Callable[[], Loop | None]) -> None:
        super().__init__(file)
        self._loop_here = loop_here
        self._waiting: list[str] = []
        self._turn_comes = False
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        with self._lock:
            self._waiting.append(text)
        loop = self._loop_here()
        if loop is None:
            self._write_waiting()
        elif not self._turn_comes:
            self._turn_comes = True
            loop.call_soon(self._in_turn, loop)

    def _in_turn(self, loop: Loop) -> None:
        self._turn_comes = self._write_waiting()
        if self._turn_comes:
            loop.call_later(AGAIN_S, self._in_turn, loop)

    def _write_waiting(self) -> bool:
        """Writes as much as the reader takes. Returns whether something is left."""
        with self._lock:
            text, self._waiting = "".join(self._waiting), []
            while text and self._is_read():
                piece = PIECE if text.isascii() else PIECE // 4
                super().write(text[:piece])
                text = text[piece:]
            if len(text) > MOST_KEPT:
                text = text[-MOST_KEPT:].partition("\n")[2]
            if text:
                self._waiting.append(text)
        return bool(text)

    def _is_read(self) -> bool:
        """Whether a further piece can be written without blocking."""
        try:
            poll = select.poll()
            poll.register(self._file.fileno(), select.POLLOUT)
            return bool(poll.poll(0))
        except (OSError, ValueError):  # the file is closed, or has no file descriptor
            return True


def start(log_format: str, loop_here: Callable[[], Loop | None] | None = None) -> Emit:
    """Sets up the log on stderr, and returns the function that writes an event. Keeps addresses out of libraries' logs.

    `log_format` is "json" or "console". `loop_here` returns the event loop of the calling thread, or None. It is needed
    only if there are event loops.
    """
    _keep_mail_out()
    stderr = sys.__stderr__ or sys.stderr
    lines = _LinesOfLoop(stderr, loop_here) if loop_here else _Lines(stderr)
    last = (
        structlog.processors.JSONRenderer(lambda line, **_: _JSON.encode(line))
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if log_format == "json" else [_printable]),
            last,
        ],
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", lines)),
    )
    log = structlog.get_logger().bind()  # bound once here; otherwise it would be bound again for each line

    def emit(event: str, **facts: object) -> None:
        wrong = event in WRONG or facts.get("reason") == "held"
        (log.warning if wrong else log.info)(event, **facts)

    return emit


def _printable(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The event with escapes in place of what a terminal would obey: some facts are in people's own words."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in value)
    return event


def _keep_mail_out() -> None:
    # urllib3's debug lines and warnings have paths, which have addresses.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    # aiosmtpd logs each command, with senders and recipients.
    logging.getLogger("mail.log").disabled = True
    for name in ("celery.pool", "celery.concurrency", "kombu"):
        logging.getLogger(name).setLevel(logging.INFO)
    # Celery logs messages that it cannot run, with all they contain.
    logging.getLogger("celery.worker.consumer.consumer").addFilter(_first_line)
    logging.getLogger("celery.app.trace").addFilter(_type_and_place)
    # While Redis is full or refuses, kombu logs a traceback each second.
    for name in ("kombu.transport.redis", "kombu.asynchronous.hub"):
        logging.getLogger(name).addFilter(_type_of_redis_error)


def _first_line(record: logging.LogRecord) -> bool:
    line = record.getMessage().strip().partition("\n")[0]
    # This line has only the broker's address (Celery leaves its password out), so it is kept whole.
    record.msg, record.args = line if line.startswith("consumer: Cannot connect") else line.partition(": ")[0], ()
    record.exc_info = None
    return True


def _type_of_redis_error(record: logging.LogRecord) -> bool:
    kind = record.exc_info and record.exc_info[0]
    if kind and kind.__module__.startswith("redis."):
        record.msg, record.args = f"{record.getMessage().partition(': ')[0]}: {kind.__name__}", ()
        record.exc_info = None
    return True


def _type_and_place(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[1]:
        task = getattr(record, "data", {}).get("name", "a task")
        record.msg, record.args = f"{task}: {place_of(record.exc_info[1])}", ()
        record.exc_info = None
    return True
