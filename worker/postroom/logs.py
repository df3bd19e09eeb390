"""Events as log lines: JSON for machines, or a form that people read."""

import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TextIO, cast

import structlog

from postroom.events import Emit, place_of

# What an operator should hear of; the rest is the way things go.
WRONG = {
    "mail.dead",
    "mail.left",
    "call.failed",
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
    def soon(self, do: Callable[[], object], /) -> None: ...


class _Lines:
    """A file for log lines. What the same turn of a loop writes goes there at once: each time costs as much as a line.

    A log that cannot be written costs no mail.
    """

    def __init__(self, file: TextIO, loop_here: Callable[[], Loop | None]) -> None:
        self._file, self._loop_here = file, loop_here
        self._waiting: list[str] = []

    def write(self, text: str) -> None:
        loop = self._loop_here()
        if loop is None:
            self._write(text)
            return
        if not self._waiting:
            loop.soon(self._write_waiting)
        self._waiting.append(text)

    def flush(self) -> None:
        """Each `write` sees to that."""

    def _write_waiting(self) -> None:
        texts, self._waiting = self._waiting, []
        self._write("".join(texts))

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # full, gone, or closed
            self._file.write(text)
            self._file.flush()


def start(log_format: str, loop_here: Callable[[], Loop | None] = lambda: None) -> Emit:
    """Sets up the lines on stderr and returns what writes one; keeps mail out of other libraries' lines.

    `loop_here` gives the loop of the thread that it is called in, if that has one.
    """
    _keep_mail_out()
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
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Lines(sys.__stderr__ or sys.stderr, loop_here))),
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
