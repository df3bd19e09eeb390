"""Events as log lines: JSON for machines, or a form that people read."""

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

# What an operator should hear of; the rest is the way things go.
WRONG = {
    "mail.dead",
    "mail.left",
    "call.failed",
    "consumer.failed",
    "journal.dropped",
    "round.failed",
    "tick.failed",
    "results.failed",
    "claim.lost",
    "worker.died",
    "worker.waiting",
    "hold.started",
    "hold.overdue",
    "probe.failed",
    "send.waiting",
    "smtp.failed",
    "api.failed",
    "event.unmatched",
}


_JSON = json.JSONEncoder(default=repr)  # kept, for json.dumps would make one for each line


class Loop(Protocol):
    """What is needed of an asyncio event loop."""

    def call_soon(self, callback: Callable[..., object], /, *arguments: Any) -> object: ...
    def call_later(self, delay: float, callback: Callable[..., object], /, *arguments: Any) -> object: ...


PIECE = 4000  # what a pipe takes at once where it takes anything (PIPE_BUF)
MOST_KEPT = 1_000_000  # characters that nobody has read yet; then the oldest lines go
AGAIN_S = 0.1


class _Lines:
    """A file for log lines. A log that cannot be written costs no mail."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # full, gone, or closed
            self._file.write(text)
            self._file.flush()

    def flush(self) -> None:
        """Each `write` sees to that."""


class _LinesOfLoop(_Lines):
    """The same where a loop works, which must not wait for whoever reads them: what is not read now is tried again.

    What the same turn of the loop writes goes there at once: each time costs as much as a line.
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
        """Whether something is left."""
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
        """Whether it takes a piece more without waiting."""
        try:
            poll = select.poll()
            poll.register(self._file.fileno(), select.POLLOUT)
            return bool(poll.poll(0))
        except (OSError, ValueError):  # no file of the system's, or closed
            return True


def start(log_format: str, loop_here: Callable[[], Loop | None] | None = None) -> Emit:
    """Sets up the lines on stderr and returns what writes one; keeps mail out of other libraries' lines.

    `loop_here`, where loops work, gives that of the thread that it is called in, if it has one.
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
            last,
        ],
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", lines)),
    )
    log = structlog.get_logger().bind()  # bound here, once: else it is for each line

    def emit(event: str, **facts: object) -> None:
        wrong = event in WRONG or facts.get("reason") == "held"
        (log.warning if wrong else log.info)(event, **facts)

    return emit


def _keep_mail_out() -> None:
    # They write paths and arguments, which hold addresses; urllib3 even when it warns of a strange answer.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    # aiosmtpd writes down each command, and with it who writes to whom.
    logging.getLogger("mail.log").disabled = True
    for name in ("celery.pool", "celery.concurrency", "kombu"):
        logging.getLogger(name).setLevel(logging.INFO)
    # What Celery cannot run it writes down whole.
    logging.getLogger("celery.worker.consumer.consumer").addFilter(_first_line)
    logging.getLogger("celery.app.trace").addFilter(_type_and_place)


def _first_line(record: logging.LogRecord) -> bool:
    line = record.getMessage().strip().partition("\n")[0]
    # That the broker is away says where it is, and no more (Celery leaves its password out).
    record.msg, record.args = line if line.startswith("consumer: Cannot connect") else line.partition(": ")[0], ()
    record.exc_info = None
    return True


def _type_and_place(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[1]:
        task = getattr(record, "data", {}).get("name", "a task")
        record.msg, record.args = f"{task}: {place_of(record.exc_info[1])}", ()
        record.exc_info = None
    return True
