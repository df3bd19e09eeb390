"""`python -m bench`: Postroom's figures beside those of alternatives, in one run."""

import sys
from pathlib import Path

import click

from bench import report
from bench.measures import Measures, Plan
from bench.measures.all import MEASURES
from bench.run import run


def command(measures: Measures) -> click.Command:
    """A command line that makes these measurements."""

    @click.command(context_settings={"help_option_names": ["-h", "--help"]})
    @click.argument("names", nargs=-1)
    @click.option("--list", "listing", is_flag=True, help="Say what can be measured, and end.")
    @click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows to this file, too.")
    @click.option("--markdown", type=click.Path(path_type=Path, exists=True), help="Print such a file as Markdown.")
    @click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True, help="How often to race.")
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
            for name, (what, _) in measures.items():
                print(f"{name:12} {what}")
        elif markdown:
            print(report.markdown(markdown))
        else:
            plan = Plan(rounds=1 if quick else rounds, scale=0.1 if quick else 1.0, contenders=contenders)
            rows, faults = run(measures, _chosen(measures, names), plan, folder)
            report.show(rows)
            if json_file:
                report.write_json(rows, json_file)
            sys.exit(1 if faults else 0)

    return main


def _chosen(measures: Measures, names: tuple[str, ...]) -> list[str]:
    if wrong := [name for name in names if not any(known.startswith(name) for known in measures)]:
        raise click.UsageError(f"there is no measurement {wrong[0]}: {', '.join(measures)}")
    return [name for name in measures if not names or name.startswith(names)]


if __name__ == "__main__":
    command(MEASURES)()
