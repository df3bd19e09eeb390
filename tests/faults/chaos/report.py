"""The balances of the modes, side by side."""

from rich.table import Table

from ..balance import Balance
from .faults import GRAPH, NETWORK, PROCESSES, REDIS
from .run import Run

ROWS: tuple[tuple[str, str], ...] = (
    ("taken in", "taken_in"),
    ("accepted", "accepted"),
    ("dead", "dead"),
    ("… of these never sent", "dead_unsent"),
    ("still waiting", "waiting"),
    ("outcome unknown for a while", "unknown"),
    ("doubled", "doubled"),
    ("… of these marked as in doubt", "doubled_in_doubt"),
    ("… of these written by a process that thawed", "doubled_by_a_frozen_write"),
    ("lost", "lost"),
    ("highest in flight of a mailbox (4)", "in_flight"),
    ("… with what only the sandbox still held", "in_flight_at_the_sandbox"),
    ("most in any 60 s, limited mailboxes (30)", "most_in_60_s"),
    ("429: by faults", "throttled_by_faults"),
    ("429: by the mailbox's limits", "throttled_by_limits"),
    ("requests struck by faults", "faults_struck"),
    ("drafts left", "drafts_left"),
)


def table(found: dict[str, Balance], runs: dict[str, Run]) -> Table:
    """The balances side by side."""
    drawn = Table("", *found)
    for title, name in ROWS:
        drawn.add_row(title, *(shown(getattr(one, name)) for one in found.values()))
    drawn.add_section()
    for title, strikes in (("", PROCESSES), ("", REDIS), ("", {"producer killed": None}), ("network faults", NETWORK)):
        for name in [title] if title else strikes:
            sums = [sum(run.happened[what] for what in (strikes if title else [name])) for run in runs.values()]
            drawn.add_row(name, *map(str, sums))
    drawn.add_row(
        "faults of Entra and Graph", *(str(sum(run.happened[w] for w in GRAPH[m])) for m, run in runs.items())
    )
    drawn.add_section()
    drawn.add_row("promises", *("broken" if one.broken else "kept" for one in found.values()))
    return drawn


def shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{number} {reason}" for reason, number in value.items()) or "0"
    return "–" if value is None else str(value)
