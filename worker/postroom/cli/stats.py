"""`postroom stats`: workers, backlog and counts."""

import os
from collections.abc import Sequence

import click
from rich.console import Group, RenderableType
from rich.table import Table

from postroom.cli.options import JSON, fail
from postroom.cli.output import GAP, columns_table, fraction, open_console, printed, short_time, to_json_text
from postroom.cli.printable import say
from postroom.jobs.job import Hold, Status
from postroom.operations import stats
from postroom.operations.stats import Lane, Memory, Stats
from postroom.settings.loading import load_settings
from postroom.store.connection import connect
from postroom.store.journal import Lag

PROBE_TIMEOUT_S = 2.0


@click.command("stats")
@click.option("--lanes", type=click.IntRange(0, 1000), default=10, show_default=True, help="The longest so many lanes.")
@click.option("--ready", is_flag=True, help="Only ask whether a worker is alive; exit 1 if none ticked for 15 s.")
@click.option("--here", is_flag=True, help="With --ready: one of this machine (or container).")
@JSON
def stats_(lanes: int, ready: bool, here: bool, as_json: bool) -> None:
    """Show workers, waiting mail in each lane, and counts of jobs."""
    if here and not ready:
        raise click.UsageError("--here goes with --ready.")
    settings = load_settings()
    connection = connect(settings.redis_url, timeout_s=PROBE_TIMEOUT_S, name="postroom-stats")
    if ready:
        _readiness(stats.alive(connection, os.uname().nodename if here else None), here=here, as_json=as_json)
        return
    figures = stats.read(connection, lanes)
    if as_json:
        say(to_json_text(figures))
        return
    console = open_console()
    console.print(stats_overview(figures, console.width))


def _readiness(workers: list[stats.Worker], *, here: bool, as_json: bool) -> None:
    where = " of this machine" if here else ""
    if as_json:
        say(to_json_text({"ready": bool(workers), "workers": len(workers)}))
    elif workers:
        say(f"Ready: workers{where} that tick: {len(workers)}.")
    if not workers:
        fail(1, f"Not ready: no worker{where} has ticked for {stats.LOST_AFTER_S:.0f} s.")


def stats_overview(figures: Stats, width: int) -> RenderableType:
    """The figures of all workers, lanes and jobs."""
    living = [worker for worker in figures.workers if worker.alive]
    parts: list[RenderableType] = []
    if not living:
        seen = min((worker.silent_s for worker in figures.workers), default=None)
        when = "" if seen is None else f" The last one was seen {_span(seen)} ago."
        parts.append(printed(f"NO WORKER IS ALIVE: nothing is sent.{when}\n", style="bold red"))
    facts = Table.grid(padding=(0, GAP))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in (
        ("workers", f"{len(living)} alive, {figures.slots} slots" if living else "none"),
        ("redirected", _redirected(living)),
        ("credentials", _expiring(figures)),
        ("workers differ", _differences(figures)),
        (
            "jobs",
            ", ".join(f"{figures.jobs[status]:,} {status}" for status in Status if figures.jobs[status]) or "none",
        ),
        ("may have been sent", f"{figures.in_doubt:,} in doubt" if figures.in_doubt else None),
        ("dead", ", ".join(f"{count:,} {reason}" for reason, count in figures.dead_by_reason.items()) or None),
        ("held", "\n".join(map(_hold, figures.holds)) or None),
        ("journal", "\n".join(_lag(one) for one in figures.journal if one.waiting or one.dropped) or None),
        ("oldest due", f"since {_span(figures.oldest_due_s)}" if figures.oldest_due_s is not None else None),
        ("rounds queued", f"{figures.rounds_queued:,}"),
        ("events without mail", ", ".join(f"{count:,} {reason}" for reason, count in figures.events.items()) or None),
        ("Redis", _memory(figures.memory)),
    ):
        if value is not None:
            facts.add_row(name, printed(value))
    parts.append(facts)
    if figures.lanes:
        rest = (
            f"the longest {len(figures.lanes)} of {figures.waiting_lanes:,}"
            if figures.waiting_lanes > len(figures.lanes)
            else "all"
        )
        parts += [printed(f"\nLanes that wait ({rest})\n", style="bold"), _lanes(figures.lanes, width)]
    return Group(*parts)


def _redirected(living: Sequence[stats.Worker]) -> str | None:
    to = sorted({worker.redirect_all_to for worker in living if worker.redirect_all_to})
    count = sum(worker.redirect_all_to is not None for worker in living)
    whose = "all workers" if count == len(living) else f"{count} of {len(living)} workers"
    return f"ALL MAIL of {whose} goes to {', '.join(to)} (POSTROOM_REDIRECT_ALL_TO)" if to else None


def _expiring(figures: Stats) -> str | None:
    lines = [
        f"the one of app {app} EXPIRES in {(end - figures.at).days} days, on {end:%Y-%m-%d}"
        for app, end in sorted(figures.expiring.items())
    ]
    return "\n".join(lines) or None


def _differences(figures: Stats) -> str | None:
    lines = [
        f"{fact} {form or 'unreadable'}: {', '.join(names)}"
        for fact, by_form in figures.forms.items()
        if len(by_form) > 1
        for form, names in by_form.items()
    ]
    return "\n".join(lines) or None


def _hold(one: Hold) -> str:
    why = f"{one.reason}: {one.detail}" if one.detail else one.reason
    return f"{one.scope} {one.name} ({why}), {one.waiting or 0:,} waiting"


def _lag(one: Lag) -> str:
    late = "" if one.waiting is None else f"{one.waiting:,} entries wait"
    dropped = f"{one.dropped:,} were dropped" if one.dropped else ""
    return f"{one.consumer}: " + ", ".join(filter(None, (late, dropped)))


def _lanes(lanes: Sequence[Lane], width: int) -> Table:
    return columns_table(
        {
            "lane": [printed(lane.lane) for lane in lanes],
            "ready": [printed(f"{lane.ready:,}") for lane in lanes],
            "later": [printed(f"{lane.later:,}") for lane in lanes],
            "sending": [printed(str(lane.sending)) for lane in lanes],
            "next": [printed(short_time(lane.wakes_at)) for lane in lanes],
            "paused until": [printed(short_time(lane.paused_until)) for lane in lanes],
            "why": [printed(lane.pause_reason or "", style="yellow") for lane in lanes],
            "pace": [printed(fraction(lane.pace) if lane.pace else "", style="yellow") for lane in lanes],
            "app": [printed("" if lane.app == "default" else lane.app) for lane in lanes],
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
