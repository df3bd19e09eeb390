"""Finds the faults of a mail, as texts that say what to do.

The limits are Exchange Online's:
https://learn.microsoft.com/office365/servicedescriptions/exchange-online-service-description/exchange-online-limits
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

MB = 1024 * 1024
MAX_RECIPIENTS = 500
# The size of a whole mail: what Exchange Online allows by default, and the most that an administrator can allow.
MAX_MESSAGE = 35 * MB
LARGEST_MESSAGE = 150 * MB
# The size of the largest request that Graph takes: https://learn.microsoft.com/graph/outlook-large-attachments
MAX_REQUEST = 4_000_000
# The size of a MIME source: in base64, with header fields that are added, it must fit into one request.
MAX_MIME = 1_600_000
MOST_UNKNOWN = 20
MOST_ENTRIES = 1000  # of any list or table in a mail
_LISTED = (list, tuple, dict)
# A MIME source has these itself, so they must not be given as fields too.
_IN_MIME = (
    "subject", "text", "html", "template", "variables", "locale", "attachments", "headers", "reply_to", "importance",
    "read_receipt", "delivery_receipt",
)  # fmt: skip


def far_too_much(values: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    """Faults of a value that is clearly not a mail. Listing all its other faults would take too long."""
    unknown = [] if known.issuperset(values) else values.keys() - known
    faults = [f"{len(unknown)} fields that there are not; this is no mail"] if len(unknown) > MOST_UNKNOWN else []
    for name, value in values.items():
        if isinstance(value, _LISTED) and len(value) > MOST_ENTRIES and name in known and name != "variables":
            faults.append(f"{name}: {len(value)} entries; at most {MOST_ENTRIES} are read")
    return faults


def contradictions(values: Mapping[str, Any]) -> list[str]:
    """Faults between fields. They are looked for in the values as given, so they are listed beside faults of fields."""
    faults = []
    recipients = sum([len(_listed(values[field])) for field in ("to", "cc", "bcc") if field in values])
    if not recipients:
        faults.append("to: no recipient (give at least one in to, cc or bcc)")
    if recipients > MAX_RECIPIENTS:
        faults.append(f"to: {recipients} recipients; Exchange takes at most {MAX_RECIPIENTS} in one mail")
    faults += _two_contents(values)
    if "scheduled_at" in values and "expires_at" in values:
        scheduled, expires = _as_datetime(values["scheduled_at"]), _as_datetime(values["expires_at"])
        if scheduled and expires and expires <= scheduled:
            faults.append("expires_at: not after scheduled_at, so this mail could never be sent")
    if "from" in values and "sender" in values:
        faults.append("sender: given twice, as from and as sender")
    return faults


def _two_contents(values: Mapping[str, Any]) -> list[str]:
    if values.get("mime") is not None:
        others = [name for name in _IN_MIME if values.get(name)]
        return [f"mime: given together with {', '.join(others)}, which the source has itself"] if others else []
    bodies = [body for body in ("html", "text") if values.get(body)]
    if values.get("template"):
        both = f"template: given together with {' and '.join(bodies)}; give either a template or ready bodies"
        return [both] if bodies else []
    faults = [] if bodies else ["template: no content (give a template, html or text, or mime)"]
    if values.get("variables"):
        faults.append("variables: given without a template to use them")
    return faults


def _listed(value: object) -> Sequence[object]:
    if isinstance(value, str):
        return [value] if value else []
    return value if isinstance(value, Sequence) else []


def _as_datetime(value: object) -> datetime | None:
    """The time that the field will have; None if it is wrong. The field's own check reports this."""
    try:
        return _time().validate_python(value).astimezone(UTC)
    except (ValidationError, OverflowError):
        return None


@cache
def _time() -> TypeAdapter[datetime]:
    return TypeAdapter(AwareDatetime)


def too_large(size: int, most: int) -> str:
    """The fault of a mail of `size` bytes, if at most `most` bytes may be sent."""
    return (
        f"attachments: the mail takes {size / MB:.1f} MB as Exchange counts, which adds a third to attachments; "
        f"at most {most / MB:.1f} MB are allowed (POSTROOM_MAX_MESSAGE)"
    )


def plainly(message: str) -> str:
    """pydantic's message about a value in plain words: `Input should be 'a' or 'b'` becomes `must be 'a' or 'b'`."""
    return message.removeprefix("Value error, ").replace("Input should ", "must ", 1)


def field_faults(error: ValidationError, known: Iterable[str]) -> Iterator[str]:
    """pydantic's faults of fields, in words. For an unknown field, the most similar one of `known` is suggested."""
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in fault["loc"]) or "a field's name"
        if fault["type"] == "extra_forbidden":
            import difflib  # noqa: PLC0415 - few producers ever need it

            near = difflib.get_close_matches(str(fault["loc"][-1]), sorted(known), n=1)
            yield f"{where}: no such field" + (f"; did you mean {near[0]}?" if near else "")
        elif fault["type"] == "timezone_aware":
            yield f"{where}: a time without its zone; give an aware datetime (or ISO 8601 with an offset)"
        else:
            yield f"{where}: {plainly(fault['msg'])}"
