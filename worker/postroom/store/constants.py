"""Values that Python and the Lua library share: each is written once, in Python, and rendered into the library."""

from collections.abc import Mapping, Sequence

from postroom.jobs.job import FRESH_LEASE_S, RECIPIENT_TOKEN_LENGTH, milliseconds
from postroom.jobs.lane_limits import DEFAULT_LIMITS, HOLD_PATIENCE_S, HOLD_PROBE_S, UNKNOWN_LOOKUPS_S
from postroom.jobs.queues import HIGH_QUEUE, NORMAL_QUEUE, ROUND_TASK
from postroom.jobs.ticks import WORKER_LOST_AFTER_S
from postroom.mail import formats
from postroom.mail.validation import MAX_MESSAGE, MAX_RECIPIENTS, MAX_REQUEST

PREFIX = "{postroom}:"  # of every key
# What the journal keeps at most for consumers that lag.
JOURNAL_ENTRIES, JOURNAL_BYTES = 100_000, 64 * 1024 * 1024

_SHARED: Mapping[str, object] = {
    "KEY_PREFIX": PREFIX,
    "NORMAL_QUEUE": NORMAL_QUEUE,
    "HIGH_QUEUE": HIGH_QUEUE,
    "ROUND_TASK": ROUND_TASK,
    "FORMAT": formats.NEWEST,
    "FORMAT_OF_SHARED_OR_CALLBACKS": formats.SHARED_OR_CALLBACKS,
    "MAX_RECIPIENTS": MAX_RECIPIENTS,
    "MAX_MESSAGE": MAX_MESSAGE,
    "MAX_REQUEST": MAX_REQUEST,
    "RECIPIENT_TOKEN_LENGTH": RECIPIENT_TOKEN_LENGTH,
    "FRESH_LEASE": milliseconds(FRESH_LEASE_S),
    "WORKER_LOST_AFTER": milliseconds(WORKER_LOST_AFTER_S),
    "HOLD_PROBE": milliseconds(HOLD_PROBE_S),
    "HOLD_PATIENCE": milliseconds(HOLD_PATIENCE_S),
    "FIRST_LOOK": milliseconds(UNKNOWN_LOOKUPS_S[0]),
    "JOURNAL_ENTRIES": JOURNAL_ENTRIES,
    "JOURNAL_BYTES": JOURNAL_BYTES,
    "DEFAULT_LIMITS": DEFAULT_LIMITS.fields,
}


def as_lua() -> str:
    """The statement that begins the library."""
    lines = [f"  {name} = {_literal(value)},\n" for name, value in _SHARED.items()]
    return f"local constants = {{\n{''.join(lines)}}}\n"


def _literal(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, Sequence):
        return "{" + ", ".join(map(_literal, value)) + "}"
    if isinstance(value, int):
        return str(value)
    raise TypeError(f"{value!r} has no form in Lua")
