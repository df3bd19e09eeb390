"""`postroom cancel` and `postroom batch`."""

import sys
from typing import Any

import click
from rich.console import RenderableType
from rich.table import Table

from postroom.cli.job_output import STATUS_COLOURS, jobs_table
from postroom.cli.options import BY, JSON, WHY, fail
from postroom.cli.output import GAP, open_console, printed, to_json_text
from postroom.cli.printable import say
from postroom.client import BatchCancelled, BatchCounts, Client
from postroom.errors import PostroomError
from postroom.jobs.job import Status


@click.command()
@click.argument("job_ids", nargs=-1, metavar="[ID…]")
@click.option("--batch", help="All jobs of this batch.")
@BY
@WHY
@JSON
def cancel(job_ids: tuple[str, ...], batch: str | None, by: str | None, why: str | None, as_json: bool) -> None:
    """Cancel jobs that have not been sent yet.

    Exit 1 if it is too late for a named job. Of a batch, the mails that were not sent yet are cancelled, and the others
    are counted.
    """
    if bool(batch) == bool(job_ids):
        raise click.UsageError("Name jobs, or a batch with --batch.")
    client = Client.from_env()
    if batch:
        _exists(client, batch)
        result = client.cancel_batch(batch, by=by, why=why)
        say(to_json_text(result) if as_json else cancelled_message(result))
        return
    ended, failed = [], False
    for job_id in job_ids:
        try:
            ended.append(client.cancel(job_id, by=by, why=why))
        except PostroomError as error:
            failed = True
            say(str(error), err=True)
    if as_json:
        say(to_json_text(ended))
    elif ended:
        console = open_console()
        console.print(jobs_table(ended, console.width))
    sys.exit(1 if failed else 0)


@click.command("batch")
@click.argument("batch", metavar="ID")
@JSON
def batch_(batch: str, as_json: bool) -> None:
    """Count the jobs of a batch by state."""
    client = Client.from_env()
    counts = _exists(client, batch)
    if as_json:
        say(to_json_text(counts))
    else:
        open_console().print(batch_table(counts))


def _exists(client: Client, batch: str) -> Any:
    counts = client.batch(batch)
    if not counts.total:
        fail(1, f"No job of a batch {batch!r}: its name is wrong, or its records are past their retention.")
    return counts


def batch_table(counts: BatchCounts) -> RenderableType:
    """The number of a batch's jobs in each state."""
    table = Table.grid(padding=(0, GAP))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_row("batch", printed(counts.batch))
    for status in Status:
        if count := getattr(counts, status):
            table.add_row(printed(status.value, style=STATUS_COLOURS[status]), f"{count:,}")
    table.add_row("total", f"{counts.total:,}")
    if counts.in_doubt:
        table.add_row("may have been sent", printed(f"{counts.in_doubt:,}", style="yellow"))
    return table


def cancelled_message(result: BatchCancelled) -> str:
    """The result of cancelling a batch, as text."""
    lines = [f"Batch {result.batch}: {result.cancelled:,} cancelled."]
    if result.in_doubt:
        lines.append(f"{result.in_doubt:,} more are cancelled as well, but may have been sent before.")
    if result.accepted:
        lines.append(f"{result.accepted:,} had left (accepted).")
    if result.sending:
        lines.append(f"{result.sending:,} were being sent just now; postroom batch {result.batch} shows how they end.")
    if result.ended_before:
        lines.append(f"{result.ended_before:,} had ended before, unsent.")
    return "\n".join(lines)
