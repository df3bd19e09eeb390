"""Events as log lines: JSON for machines, or a form that people read."""

import logging
import sys

import structlog

from postroom.events import Emit

# What an operator should hear of; the rest is the way things go.
WRONG = {"mail.dead", "round.failed", "tick.failed", "claim.lost", "worker.died", "worker.waiting", "send.waiting"}


def start(log_format: str) -> Emit:
    """Sets up the lines on stderr and returns what writes one."""
    logging.getLogger("urllib3").setLevel(logging.INFO)  # at DEBUG it writes paths, which hold addresses
    last = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last,
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.__stderr__),
        cache_logger_on_first_use=True,
    )
    log = structlog.get_logger()

    def emit(event: str, **facts: object) -> None:
        wrong = event in WRONG or facts.get("reason") == "held"
        (log.warning if wrong else log.info)(event, **facts)

    return emit
