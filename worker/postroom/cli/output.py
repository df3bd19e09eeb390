"""How deliveries look in a terminal, and as JSON."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from postroom.access.api_keys import ApiKey
from postroom.client import BatchCancelled, BatchCounts
from postroom.jobs.job import LOOKED_UP, Act, Attempt, Delivery, Hold, Status
from postroom.mail.model import Mail
from postroom.operations.dead_letters import Letter, Overview
from postroom.operations.stats import Lane, Memory, Stats
from postroom.store.operator import Kept, Released

if TYPE_CHECKING:
    from postroom.cloudevents.preview import Trial  # needs an extra

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


def as_json(value: object, *, indent: int | None = 2) -> str:
    """`value` as JSON; times are ISO 8601 in UTC. Without an `indent` it is one line."""

    def other(thing: object) -> object:
        if isinstance(thing, datetime):
            return thing.isoformat()
        if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
            return {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
        if isinstance(thing, Mail):
            return json.loads(thing.to_json())
        return str(thing)

    return json.dumps(value, default=other, ensure_ascii=False, indent=indent)


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
        "answer": [Text(_answer(one)) for one in deliveries],
        "from": [Text(one.sender) for one in deliveries],
        "recipients": [Text(str(one.recipients)) for one in deliveries],
    }
    return _columns(columns, _DISPENSABLE, width)


def holds(found: Sequence[Hold], width: int) -> Table:
    """One line a hold."""
    when = _time if width == _ENDLESS else _short_time
    columns = {
        "held": [Text(one.name) for one in found],
        "what": [Text(_WHAT[one.scope]) for one in found],
        "reason": [Text(one.reason) for one in found],
        "by": [Text(one.by or "a fault") for one in found],
        "since": [Text(when(one.since)) for one in found],
        "until": [Text(when(one.until)) for one in found],
        "next probe": [Text(_probe(one, when)) for one in found],
        "waiting": [Text(str(one.waiting)) for one in found],
    }
    return _columns(columns, (), width, unbroken="waiting")


def kept(one: Kept, *, of_batch: bool) -> str:
    """What a hold that has just begun keeps, and what it came too late for."""
    late = {"being sent": one.sending}
    if of_batch:
        late |= {"accepted": one.accepted, "ended otherwise": one.ended}
    said = ", ".join(f"{number} {word}" for word, number in late.items() if number)
    if of_batch and not (said or one.waiting):
        return f"{one.name} is held; no mail of a batch of this name was taken in yet"
    return f"{one.name} is held: {one.waiting} waiting" + (f"; too late for {said}" if said else "")


def released(one: Released) -> str:
    """What a release did."""
    said = [f"{one.name} is released"] if one.was_held else []
    if one.probed:
        what = "it" if one.probed == "lane" else "its app"
        said.append(f"{one.name}: a fault holds {what}, which is tried now; postroom holds shows whether it goes on")
    return "\n".join(said) or f"{one.name} was not held"


_WHAT = {"lane": "mailbox", "app": "app", "batch": "batch"}


def _probe(one: Hold, when: Callable[[datetime | None], str]) -> str:
    if one.next_probe is None:
        return ""
    return when(one.next_probe) if one.next_probe > datetime.now(UTC) else "now"


def _held(one: Hold) -> str:
    what = f"{_WHAT[one.scope]} {one.name}, since {_time(one.since)}"
    if one.by is None:
        return f"{what}: {one.reason}; next probe {_probe(one, _time)}"
    until = f" until {_time(one.until)}" if one.until else ""
    return f"{what}{until}, by {one.by}" + (f": {one.reason}" if one.reason else "")


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
        ("held", _held(one.hold) if one.hold else None),
        ("paused", _paused(one)),
        ("pace", _slowed(one)),
        ("next try", _time(one.next_at)),
        ("ended", _time(one.ended_at)),
        ("requeued from", one.requeued_from),
        ("replaced by", one.replaced_by),
    ):
        if value not in (None, ""):
            facts.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    return Group(facts, _attempts(one.attempts), _audit(one.audit))


def way(one: Delivery) -> RenderableType:
    """One job in short: how it ended, and by which attempts."""
    return Group(Text.assemble("  ", _status(one), f"  job {one.id}"), _attempts(one.attempts, indent="  "))


def letter(one: Letter) -> RenderableType:
    """One job with its mail, all its attempts, and what people did to it."""
    parts: list[RenderableType] = [job(one.job)]
    if one.mail is not None:
        fields = Table.grid(padding=(0, _GAP))
        fields.add_column(style="dim")
        fields.add_column(overflow="fold")
        for name, value in one.mail.items():
            said = ", ".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value
            fields.add_row(name, Text(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)))
        parts += [Text("\nIts mail", style="bold"), fields]
    else:
        parts.append(Text("\nIts mail is no longer kept.", style="dim"))
    return Group(*parts)


def dead_letters(found: Overview, width: int) -> RenderableType:
    """How many of each reason, and the newest of all."""
    if not found.total:
        return Text("No such dead letters.")
    one = found.total == 1
    parts: list[RenderableType] = [
        Text(f"{found.total:,} dead letter{'' if one else 's'}\n", style="bold"),
        _columns(
            {
                "reason": [Text(kind.reason, style="red") for kind in found.reasons],
                "mails": [Text(f"{kind.count:,}") for kind in found.reasons],
                "newest": [Text(_short_time(kind.newest.ended_at) if kind.newest else "") for kind in found.reasons],
                "answer": [Text(_answer(kind.newest) if kind.newest else "") for kind in found.reasons],
                "such as": [Text(kind.newest.id if kind.newest else "") for kind in found.reasons],
                "may have been sent": [Text(f"{kind.in_doubt:,}" if kind.in_doubt else "") for kind in found.reasons],
            },
            ("may have been sent", "answer", "newest"),
            width,
        ),
    ]
    if found.letters:
        head = "The newest" if len(found.letters) < found.total else "All of them"
        parts += [Text(f"\n{head}\n", style="bold"), jobs(found.letters, width)]
    return Group(*parts)


def batch(counts: BatchCounts) -> RenderableType:
    """A batch's jobs by state."""
    table = Table.grid(padding=(0, _GAP))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_row("batch", counts.batch)
    for status in Status:
        if count := getattr(counts, status):
            table.add_row(Text(status.value, style=_COLOURS[status]), f"{count:,}")
    table.add_row("total", f"{counts.total:,}")
    if counts.in_doubt:
        table.add_row("may have been sent", Text(f"{counts.in_doubt:,}", style="yellow"))
    return table


def api_keys(found: Sequence[ApiKey], width: int) -> RenderableType:
    """One line a key; never the key itself."""
    columns = {
        "name": [Text(key.name) for key in found],
        "may": [Text(", ".join(key.scopes)) for key in found],
        "senders": [Text(", ".join(key.senders) or "all") for key in found],
        "rate": [Text(rate(key.rate)) for key in found],
        "made": [Text(f"{key.created_at:%Y-%m-%d}") for key in found],
        "last used": [Text(f"{key.used_on:%Y-%m-%d}" if key.used_on else "never") for key in found],
        "id": [Text(key.id) for key in found],
    }
    return _columns(columns, ("id", "made", "rate"), width, "name")


def rate(given: tuple[int, float]) -> str:
    """A rate as it is written in settings."""
    count, seconds = given
    unit = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "d"}.get(seconds)
    return f"{count}/{unit}" if unit else f"{count}/{seconds:g}s"


def trial(told: "Trial") -> str:
    """What one rule makes of a sample event."""
    lines = [f"{told.sample}: {told.event or 'no event'}"]
    if mail := told.mail:
        lines.append(f"  rule {told.rule} sends {mail.template}: {told.subject or 'no subject'}")
        lines.append(f"  from {mail.sender}")
        lines += [f"  {kind} {', '.join(getattr(mail, kind))}" for kind in ("to", "cc", "bcc") if getattr(mail, kind)]
    lines += [f"  FAULT {fault}" for fault in told.faults]
    return "\n".join(lines)


def batch_cancelled(told: BatchCancelled) -> str:
    """What came of cancelling a batch."""
    lines = [f"Batch {told.batch}: {told.cancelled:,} cancelled."]
    if told.in_doubt:
        lines.append(f"{told.in_doubt:,} more are cancelled as well, but may have been sent before.")
    if told.accepted:
        lines.append(f"{told.accepted:,} had left (accepted).")
    if told.sending:
        lines.append(f"{told.sending:,} were being sent just now; postroom batch {told.batch} shows how they end.")
    if told.ended_before:
        lines.append(f"{told.ended_before:,} had ended before, unsent.")
    return "\n".join(lines)


def stats(told: Stats, width: int) -> RenderableType:
    """The figures of the whole mail room."""
    living = [worker for worker in told.workers if worker.alive]
    parts: list[RenderableType] = []
    if not living:
        seen = min((worker.silent_s for worker in told.workers), default=None)
        when = "" if seen is None else f" The last one was seen {_span(seen)} ago."
        parts.append(Text(f"NO WORKER IS ALIVE: nothing is sent.{when}\n", style="bold red"))
    facts = Table.grid(padding=(0, _GAP))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in (
        ("workers", f"{len(living)} alive, {told.hands} hands" if living else "none"),
        ("jobs", ", ".join(f"{told.jobs[status]:,} {status}" for status in Status if told.jobs[status]) or "none"),
        ("may have been sent", f"{told.in_doubt:,} in doubt" if told.in_doubt else None),
        ("dead", ", ".join(f"{count:,} {reason}" for reason, count in told.dead_by_reason.items()) or None),
        ("oldest due", f"since {_span(told.oldest_due_s)}" if told.oldest_due_s is not None else None),
        ("rounds queued", f"{told.rounds_queued:,}"),
        ("events without mail", ", ".join(f"{count:,} {reason}" for reason, count in told.events.items()) or None),
        ("Redis", _memory(told.memory)),
    ):
        if value is not None:
            facts.add_row(name, Text(value))
    parts.append(facts)
    if told.lanes:
        rest = (
            f"the longest {len(told.lanes)} of {told.waiting_lanes:,}"
            if told.waiting_lanes > len(told.lanes)
            else "all"
        )
        parts += [Text(f"\nLanes that wait ({rest})\n", style="bold"), _lanes(told.lanes, width)]
    return Group(*parts)


def _lanes(lanes: Sequence[Lane], width: int) -> Table:
    return _columns(
        {
            "lane": [Text(lane.lane) for lane in lanes],
            "ready": [Text(f"{lane.ready:,}") for lane in lanes],
            "later": [Text(f"{lane.later:,}") for lane in lanes],
            "sending": [Text(str(lane.sending)) for lane in lanes],
            "next": [Text(_short_time(lane.wakes_at)) for lane in lanes],
            "paused until": [Text(_short_time(lane.paused_until)) for lane in lanes],
            "why": [Text(lane.pause_reason or "", style="yellow") for lane in lanes],
            "pace": [Text(_part(lane.pace) if lane.pace else "", style="yellow") for lane in lanes],
            "app": [Text("" if lane.app == "default" else lane.app) for lane in lanes],
        },
        ("app", "sending", "next", "paused until"),
        width,
    )


def _memory(memory: Memory | None) -> str | None:
    if memory is None:
        return None
    return f"{_size(memory.used)} of {_size(memory.most)}" if memory.most else f"{_size(memory.used)}, without a bound"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _columns(columns: dict[str, list[Text]], dispensable: Sequence[str], width: int, unbroken: str = "job") -> Table:
    """Rows with as many columns as fit into `width`: empty ones never, then the dispensable ones in turn."""
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    for name in dispensable:
        if sum(_width(head, cells) + _GAP for head, cells in columns.items()) - _GAP > width:
            columns.pop(name, None)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name == unbroken)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _answer(one: Delivery) -> str:
    return f"{one.http_status or ''} {one.graph_code or ''}".strip()


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


def _audit(acts: Sequence[Act]) -> Table:
    """Who did what, when and why."""
    table = Table.grid(padding=(0, _GAP))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for act in acts:
        changes = f", changed: {', '.join(act.fields)}" if act.fields else ""
        why = f": {act.why}" if act.why else ""
        table.add_row(act.did, Text(f"{_time(act.at)}  by {act.by}{changes}{why}"))
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


def _paused(one: Delivery) -> str | None:
    if one.paused_until is None or (one.hold and one.hold.reason == one.pause_reason):
        return None
    return f"until {_time(one.paused_until)}: {one.pause_reason}"


def _slowed(one: Delivery) -> str | None:
    if one.pace is None:
        return None
    return (
        f"{_part(one.pace)} since Graph throttled the mailbox; full again at {_time(one.full_pace_at)} if it goes well"
    )


def _part(pace: float) -> str:
    return f"1/{round(1 / pace)}"


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
