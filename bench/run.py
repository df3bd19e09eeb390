"""A run: one measurement after the other with one stand-in, and an end to all that it started, whatever happens."""

import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from bench.graph import standing_in
from bench.measures import Measures, Plan
from bench.progress import BenchFault, say
from bench.rows import Row


def run(measures: Measures, chosen: Sequence[str], plan: Plan, folder: Path | None) -> tuple[list[Row], int]:
    """The rows of all that could be measured, and how much could not."""
    rows: list[Row] = []
    faults = 0
    _end_on_signals()
    _write_to(folder)
    with TemporaryDirectory(prefix="bench-") as ours, standing_in(Path(ours)) as graph:
        for name in chosen:
            what, measure = measures[name]
            say(f"{name}: {what}")
            try:
                for row in measure(graph, plan):
                    rows.append(row)
                    say(f"{row.name}: {row.value:.4g} {row.unit}{_missed(row)}")
            except BenchFault as fault:
                faults += 1
                say(f"{name} could not be measured: {fault}")
    return rows, faults


def _missed(row: Row) -> str:
    return f" (not {row.target})" if row.ok is False else ""


def _write_to(folder: Path | None) -> None:
    # Everybody's store syncs each write; a disk's own moods are not what is to be compared. `--folder` has them in.
    memory = Path("/dev/shm")
    if folder or memory.is_dir():
        tempfile.tempdir = str(folder or memory)


def _end_on_signals() -> None:
    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
