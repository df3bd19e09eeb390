"""`python -m bench`: Postroom's figures beside those of alternatives, in one run."""

import signal
import sys
import tempfile
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import click

from bench import report
from bench.graph import standing_in
from bench.measures import Plan
from bench.measures.all import MEASURES
from bench.progress import BenchFault, say
from bench.rows import Row


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1)
@click.option("--list", "listing", is_flag=True, help="Say what can be measured, and end.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows to this file, too.")
@click.option(
    "--markdown", type=click.Path(path_type=Path, exists=True), help="Print such a file as Markdown, and end."
)
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True, help="Repetitions of the races.")
@click.option("--quick", is_flag=True, help="A trial with a tenth of the mails; its figures mean little.")
@click.option("--contenders", default="", help="In the races only those with this in their names.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True), help="Where Redis writes; else in memory.")
def main(
    names: tuple[str, ...],
    listing: bool,
    json_file: Path | None,
    markdown: Path | None,
    rounds: int,
    quick: bool,
    contenders: str,
    folder: Path | None,
) -> None:
    """Measure all, or what begins with one of NAMES. docs/performance.md says what each row means."""
    if listing:
        for name, (what, _) in MEASURES.items():
            print(f"{name:12} {what}")
        return
    if markdown:
        print(report.markdown(markdown))
        return
    chosen = [name for name in MEASURES if not names or name.startswith(names)]
    if wrong := [name for name in names if not any(known.startswith(name) for known in MEASURES)]:
        raise click.UsageError(f"there is no measurement {wrong[0]}: {', '.join(MEASURES)}")
    plan = Plan(rounds=1 if quick else rounds, scale=0.1 if quick else 1.0, contenders=contenders)
    rows, faults = measure(chosen, plan, folder)
    report.show(rows)
    if json_file:
        report.write_json(rows, json_file)
    sys.exit(1 if faults else 0)


def measure(chosen: list[str], plan: Plan, folder: Path | None) -> tuple[list[Row], int]:
    """The rows of all that could be measured, and how much could not."""
    rows: list[Row] = []
    faults = 0
    _end_on_signals()
    _write_to(folder)
    with TemporaryDirectory(prefix="bench-") as ours, standing_in(Path(ours)) as graph:
        for name in chosen:
            say(f"{name}: {MEASURES[name][0]}")
            try:
                for row in MEASURES[name][1](graph, plan):
                    rows.append(row)
                    say(
                        f"{row.name}: {row.value:.4g} {row.unit}{'' if row.ok is not False else f' (not {row.target})'}"
                    )
            except BenchFault as fault:
                faults += 1
                say(f"{name} could not be measured: {fault}")
    return rows, faults


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


if __name__ == "__main__":
    main()
