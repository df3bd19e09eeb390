"""How a job, its attempts and a list of jobs look in a terminal."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from postroom.cli.output import (
    ENDLESS,
    GAP,
    columns_table,
    fraction,
    open_console,
    printed,
    short_time,
    time_text,
    to_json_text,
)
from postroom.cli.printable import printable, say
from postroom.jobs.job import LOOKED_UP, Act, Attempt, Delivery, Hold, Status
from postroom.jobs.reasons import plain_text, reason_of

STATUS_COLOURS = {
    Status.QUEUED: "cyan",
    Status.DEFERRED: "yellow",
    Status.SENDING: "blue",
    Status.ACCEPTED: "green",
    Status.DEAD: "red",
    Status.CANCELLED: "magenta",
    Status.EXPIRED: "magenta",
}


_OUTCOMES = {"notfound": "not found", "stilldraft": "still a draft", "notpermitted": "may not look"}


# If the terminal is too narrow for all columns of a list, these are left out first.
_DISPENSABLE = ("recipients", "tries", "from", "next", "answer", "taken in")


def print_job(delivery: Delivery, *, as_json: bool) -> None:
    """Prints one job with all its attempts."""
    if as_json:
        say(to_json_text(delivery))
    else:
        open_console().print(job_details(delivery))


def jobs_table(deliveries: Sequence[Delivery], width: int) -> Table:
    """One line per job, with as many columns as fit into `width`."""
    when = time_text if width == ENDLESS else short_time
    columns = {
        "job": [printed(one.id) for one in deliveries],
        "status": [status_text(one) for one in deliveries],
        "taken in": [printed(when(one.created_at)) for one in deliveries],
        "next": [printed(when(one.next_at)) for one in deliveries],
        "tries": [printed(str(sum(1 for attempt in one.attempts if attempt.number))) for one in deliveries],
        "answer": [printed(answer_text(one)) for one in deliveries],
        "from": [printed(one.sender) for one in deliveries],
        "recipients": [printed(str(one.recipients)) for one in deliveries],
    }
    return columns_table(columns, _DISPENSABLE, width)


SCOPE_NAMES = {"lane": "mailbox", "app": "app", "batch": "batch"}


def probe_text(one: Hold, when: Callable[[datetime | None], str]) -> str:
    if one.next_probe is None:
        return ""
    return when(one.next_probe) if one.next_probe > datetime.now(UTC) else "now"


def _hold_text(one: Hold) -> str:
    what = f"{SCOPE_NAMES[one.scope]} {one.name}, since {time_text(one.since)}"
    if one.by is None:
        return f"{what}: {one.reason}; next probe {probe_text(one, time_text)}"
    until = f" until {time_text(one.until)}" if one.until else ""
    return f"{what}{until}, by {one.by}" + (f": {one.reason}" if one.reason else "")


def job_details(one: Delivery) -> RenderableType:
    """One job with all its attempts."""
    facts = Table.grid(padding=(0, GAP))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in (
        ("job", one.id),
        ("status", status_text(one)),
        *_explained(one),
        ("from", one.sender),
        ("mailbox", mailbox if (mailbox := one.lane.partition("#")[0]) != one.sender else None),
        ("recipients", one.recipients),
        ("priority", one.priority.value),
        ("batch", one.batch),
        ("key", one.key),
        ("tags", ", ".join(one.tags)),
        ("taken in", time_text(one.created_at)),
        ("scheduled", time_text(one.scheduled_at)),
        ("expires", time_text(one.expires_at)),
        ("held", _hold_text(one.hold) if one.hold else None),
        ("paused", _paused(one)),
        ("pace", _slowed(one)),
        ("next try", time_text(one.next_at)),
        ("ended", time_text(one.ended_at)),
        ("requeued from", one.requeued_from),
        ("replaced by", one.replaced_by),
    ):
        if value not in (None, ""):
            facts.add_row(name, value if isinstance(value, Text) else printed(str(value)))
    return Group(facts, _attempts(one.attempts), _audit(one.audit))


def _explained(one: Delivery) -> tuple[tuple[str, str], ...]:
    """The meaning of a dead or held job's reason, and what to do."""
    last = next((attempt.reason for attempt in reversed(one.attempts) if attempt.reason), None)
    name = last if one.reason in ("held", "backoff") else one.reason
    known = reason_of(name) if name and (one.status is Status.DEAD or one.reason == "held") else None
    return (("meaning", plain_text(known.meaning)), ("what to do", plain_text(known.next_step))) if known else ()


def job_summary(one: Delivery) -> RenderableType:
    """A summary of one job: how it ended, and its attempts."""
    return Group(
        Text.assemble("  ", status_text(one), printed(f"  job {one.id}")), _attempts(one.attempts, indent="  ")
    )


def answer_text(one: Delivery) -> str:
    return f"{one.http_status or ''} {one.graph_code or ''}".strip()


def _attempts(rows: Sequence[Attempt], indent: str = "") -> Table:
    """A few lines per attempt; equal ones are merged. Includes the request-id, for which Microsoft's support asks."""
    table = Table.grid(padding=(0, GAP))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for _, group in groupby(rows, _what_it_says):
        same = list(group)
        for number, line in enumerate(_lines(same)):
            table.add_row(indent + (_name(same) if number == 0 else ""), line)
    return table


def _audit(acts: Sequence[Act]) -> Table:
    """Who did what, when and why."""
    table = Table.grid(padding=(0, GAP))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for act in acts:
        changes = f", changed: {', '.join(act.fields)}" if act.fields else ""
        why = f": {act.why}" if act.why else ""
        table.add_row(printed(act.did), printed(f"{time_text(act.at)}  by {act.by}{changes}{why}"))
    return table


def _what_it_says(row: Attempt) -> tuple[object, ...]:
    # An attempt with a request stays separate. The others may repeat for days, so equal ones are merged.
    return (row.number or None, row.outcome, row.reason, row.http_status, row.graph_code, row.detail)


def _name(same: Sequence[Attempt]) -> str:
    if same[0].outcome in LOOKED_UP:
        return "look-up"
    return f"try {same[0].number}" if same[0].number else "not sent"


def _lines(same: Sequence[Attempt]) -> list[Text]:
    first, last = same[0], same[-1]
    often = f" to {time_text(last.at)}, {len(same)} times" if len(same) > 1 else ""
    outcome = _OUTCOMES.get(last.outcome, last.outcome)
    text = f"{outcome}: {last.reason}" if last.reason else outcome
    answered = f"  HTTP {last.http_status}" if last.http_status else ""
    took = f"  {last.duration_ms} ms" if last.duration_ms is not None else ""
    lines = [printed(f"{time_text(first.at)}{often}  {text}{answered}{took}")]
    if last.graph_code and last.graph_code not in (last.detail or ""):
        lines.append(printed(last.graph_code))
    if last.detail:
        lines.append(printed(last.detail))
    if last.redirected_to and last.number:
        lines.append(printed(f"to {last.redirected_to} instead of its recipients (POSTROOM_REDIRECT_ALL_TO)", "yellow"))
    if last.request_id:
        lines.append(printed(f"request-id {last.request_id}", style="dim"))
    if workers := sorted({one.worker for one in same if one.worker}):
        lines.append(printed(f"worker {', '.join(workers)}", style="dim"))
    return lines


def _paused(one: Delivery) -> str | None:
    if one.paused_until is None or (one.hold and one.hold.reason == one.pause_reason):
        return None
    return f"until {time_text(one.paused_until)}: {one.pause_reason}"


def _slowed(one: Delivery) -> str | None:
    if one.pace is None:
        return None
    full = time_text(one.full_pace_at)
    return f"{fraction(one.pace)} since Graph throttled the mailbox; full again at {full} if it goes well"


def status_text(one: Delivery) -> Text:
    text = printed(one.status.value, style=STATUS_COLOURS[one.status])
    if one.reason and one.reason != one.status:
        text.append(printable(f" ({one.reason})"), style="dim")
    if one.in_doubt and one.reason != "unknown":
        text.append(" may have been sent", style="yellow")
    return text
