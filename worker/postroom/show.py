"""How deliveries look in a terminal, and as JSON."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from postroom.job import LOOKED_UP, Attempt, Delivery, Status

_COLOURS = {
    Status.QUEUED: "cyan",
    Status.DEFERRED: "yellow",
    Status.SENDING: "blue",
    Status.ACCEPTED: "green",
    Status.DEAD: "red",
    Status.CANCELLED: "magenta",
    Status.EXPIRED: "magenta",
}
_OUTCOMES = {"notfound": "not found", "stilldraft": "still a draft", "notpermitted": "may not look"}
_GAP = 2
_ENDLESS = 10_000
# Where the terminal is too narrow for all columns of a list, these go first.
_DISPENSABLE = ("recipients", "tries", "from", "next", "answer", "taken in")


def as_json(value: object) -> str:
    """`value` as JSON; times are ISO 8601 in UTC."""

    def other(thing: object) -> object:
        if isinstance(thing, datetime):
            return thing.isoformat()
        if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
            return dataclasses.asdict(thing)
        return str(thing)

    return json.dumps(value, default=other, ensure_ascii=False, indent=2)


def console() -> Console:
    """Where to print: as wide as the terminal, or without a limit where a file or another program reads."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _ENDLESS)


def jobs(deliveries: Sequence[Delivery], width: int) -> Table:
    """One line a job, with as many columns as fit into `width`."""
    when = _time if width == _ENDLESS else _short_time
    columns = {
        "job": [Text(one.id) for one in deliveries],
        "status": [_status(one) for one in deliveries],
        "taken in": [Text(when(one.created_at)) for one in deliveries],
        "next": [Text(when(one.next_at)) for one in deliveries],
        "tries": [Text(str(sum(1 for attempt in one.attempts if attempt.number))) for one in deliveries],
        "answer": [Text(f"{one.http_status or ''} {one.graph_code or ''}".strip()) for one in deliveries],
        "from": [Text(one.sender) for one in deliveries],
        "recipients": [Text(str(one.recipients)) for one in deliveries],
    }
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    for name in _DISPENSABLE:
        if sum(_width(head, cells) + _GAP for head, cells in columns.items()) - _GAP > width:
            columns.pop(name, None)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name == "job")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def job(one: Delivery) -> RenderableType:
    """One job with all its attempts."""
    facts = Table.grid(padding=(0, _GAP))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in (
        ("job", one.id),
        ("status", _status(one)),
        ("from", one.sender),
        ("recipients", one.recipients),
        ("priority", one.priority.value),
        ("batch", one.batch),
        ("key", one.key),
        ("taken in", _time(one.created_at)),
        ("scheduled", _time(one.scheduled_at)),
        ("expires", _time(one.expires_at)),
        ("paused", f"until {_time(one.paused_until)}: {one.pause_reason}" if one.paused_until else None),
        ("next try", _time(one.next_at)),
        ("ended", _time(one.ended_at)),
    ):
        if value not in (None, ""):
            facts.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    return Group(facts, _attempts(one.attempts)) if one.attempts else facts


def way(one: Delivery) -> RenderableType:
    """One job in short: how it ended, and by which attempts."""
    return Group(Text.assemble("  ", _status(one), f"  job {one.id}"), _attempts(one.attempts, indent="  "))


def _attempts(rows: Sequence[Attempt], indent: str = "") -> Table:
    """A few lines an attempt; those that say the same stand together. Microsoft's support asks for the request-id."""
    table = Table.grid(padding=(0, _GAP))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for _, group in groupby(rows, _what_it_says):
        same = list(group)
        for number, line in enumerate(_lines(same)):
            table.add_row(indent + (_name(same) if number == 0 else ""), line)
    return table


def _what_it_says(row: Attempt) -> tuple[object, ...]:
    # An attempt that was made is one of its own; what was found out without one may repeat for days.
    return (row.number or None, row.outcome, row.reason, row.http_status, row.graph_code, row.detail)


def _name(same: Sequence[Attempt]) -> str:
    if same[0].outcome in LOOKED_UP:
        return "look-up"
    return f"try {same[0].number}" if same[0].number else "not sent"


def _lines(same: Sequence[Attempt]) -> list[Text]:
    first, last = same[0], same[-1]
    often = f" to {_time(last.at)}, {len(same)} times" if len(same) > 1 else ""
    outcome = _OUTCOMES.get(last.outcome, last.outcome)
    said = f"{outcome}: {last.reason}" if last.reason else outcome
    answered = f"  HTTP {last.http_status}" if last.http_status else ""
    took = f"  {last.duration_ms} ms" if last.duration_ms is not None else ""
    lines = [Text(f"{_time(first.at)}{often}  {said}{answered}{took}")]
    if last.graph_code and last.graph_code not in (last.detail or ""):
        lines.append(Text(last.graph_code))
    if last.detail:
        lines.append(Text(last.detail))
    if last.request_id:
        lines.append(Text(f"request-id {last.request_id}", style="dim"))
    return lines


def _status(one: Delivery) -> Text:
    text = Text(one.status.value, style=_COLOURS[one.status])
    if one.reason and one.reason != one.status:
        text.append(f" ({one.reason})", style="dim")
    if one.in_doubt and one.reason != "unknown":
        text.append(" may have been sent", style="yellow")
    return text


def _width(name: str, cells: Sequence[Text]) -> int:
    return max(cell_len(name), *(cell.cell_len for cell in cells))


def _time(value: datetime | None) -> str:
    return "" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _short_time(value: datetime | None) -> str:
    """The time of a moment today, the date of any other."""
    if value is None:
        return ""
    local, today = value.astimezone(), datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d")
