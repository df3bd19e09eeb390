"""`postroom status` and `postroom jobs`: the status of jobs. They import only what they need, to answer at once."""

from typing import Any

import click

from postroom.cli.job_output import jobs_table, print_job
from postroom.cli.options import JSON, since_option
from postroom.cli.output import open_console, to_json_text
from postroom.cli.printable import say
from postroom.jobs.job import Delivery, Status
from postroom.jobs.job_filter import JobFilter
from postroom.settings.redis_url import redis_url
from postroom.store.connection import connect
from postroom.store.queries import Records

TIMEOUT_S = 3.0


@click.command()
@click.argument("job_id")
@JSON
def status(job_id: str, as_json: bool) -> None:
    """Show the status of a job, with every attempt."""
    print_job(_records().read(job_id), as_json=as_json)


@click.command()
@click.option("--status", "status_", type=click.Choice([s.value for s in Status]), help="Only those in this state.")
@click.option("--reason", help="Only those with this reason.")
@click.option("--to", help="Only those to this address.")
@click.option("--batch", help="Only those of this batch.")
@click.option("--sender", help="Only those from this address.")
@click.option("--key", help="Only the one with this idempotency key.")
@click.option("--tag", help="Only those with this tag.")
@click.option("--since", metavar="TIME", help="Only those taken in since: an ISO time, or a time ago as 2h.")
@click.option("--until", metavar="TIME", help="Only those taken in before this: as --since.")
@click.option("--limit", type=click.IntRange(1, 10000), default=25, show_default=True, help="At most so many.")
@JSON
def jobs(
    status_: str | None,
    sender: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,
    **filters: Any,
) -> None:
    """List the newest jobs that match."""
    wanted = JobFilter(
        status=Status(status_) if status_ else None,
        senders=(sender,) if sender else (),
        since=since_option("--since", since),
        until=since_option("--until", until),
        **filters,
    )
    deliveries = _records().newest(wanted, limit)
    if as_json:
        say(to_json_text(deliveries))
    elif deliveries:
        _print_list(deliveries)
    else:
        say("No such jobs.", err=True)


def _print_list(deliveries: list[Delivery]) -> None:
    console = open_console()
    console.print(jobs_table(deliveries, console.width))


def _records() -> Records:
    return Records(connect(redis_url(), timeout_s=TIMEOUT_S, name="postroom-jobs"))
