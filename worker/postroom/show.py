"""How deliveries look in a terminal, and as JSON."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from postroom.job import Attempt, Delivery, Status

_COLOURS = {
    Status.QUEUED: "cyan",
    Status.DEFERRED: "yellow",
    Status.SENDING: "blue",
    Status.ACCEPTED: "green",
    Status.DEAD: "red",
    Status.CANCELLED: "magenta",
    Status.EXPIRED: "magenta",
}


def as_json(value: object) -> str:
    """`value` as JSON; times are ISO 8601 in UTC."""

    def other(thing: object) -> object:
        if isinstance(thing, datetime):
            return thing.isoformat()
        if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
            return dataclasses.asdict(thing)
        return str(thing)

    return json.dumps(value, default=other, ensure_ascii=False, indent=2)


def console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def status_text(delivery: Delivery) -> Text:
    text = Text(delivery.status.value, style=_COLOURS[delivery.status])
    if delivery.reason and delivery.reason != delivery.status:
        text.append(f" ({delivery.reason})", style="dim")
    return text


def jobs(deliveries: Sequence[Delivery]) -> Table:
    """One line a job, the newest first."""
    table = _table("job", "status", "from", "to", "tries", "HTTP", "Graph code", "taken in", "next")
    for one in deliveries:
        table.add_row(
            one.id,
            status_text(one),
            one.sender,
            f"{one.recipients} recipient{'s' if one.recipients != 1 else ''}",
            str(len(one.attempts)),
            _cell(one.http_status),
            _cell(one.graph_code),
            _time(one.created_at),
            _time(one.next_at),
        )
    return table


def job(one: Delivery) -> RenderableType:
    """One job with all its attempts."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in (
        ("job", one.id),
        ("status", status_text(one)),
        ("from", one.sender),
        ("recipients", one.recipients),
        ("priority", one.priority.value),
        ("batch", one.batch),
        ("key", one.key),
        ("taken in", _time(one.created_at)),
        ("scheduled", _time(one.scheduled_at)),
        ("expires", _time(one.expires_at)),
        ("next try", _time(one.next_at)),
        ("ended", _time(one.ended_at)),
    ):
        if value not in (None, ""):
            facts.add_row(name, value if isinstance(value, Text) else str(value))
    return Group(facts, attempts(one.attempts)) if one.attempts else facts


def attempts(rows: Sequence[Attempt]) -> Table:
    """Two lines an attempt; the request-id is what Microsoft's support asks for."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for row in rows:
        seen = [f"HTTP {row.http_status}" if row.http_status else None, row.graph_code, row.reason]
        took = f"{row.duration_ms} ms" if row.duration_ms is not None else None
        said = "  ".join(part for part in (row.outcome, *seen, took, _time(row.at)) if part)
        table.add_row(f"try {row.number}" if row.number else "no try", said)
        if row.detail:
            table.add_row("", row.detail)
        if row.request_id:
            table.add_row("", Text(f"request-id {row.request_id}", style="dim"))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in {"job", "status", "taken in", "next", "at"})
    return table


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _time(value: datetime | None) -> str:
    return "" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
