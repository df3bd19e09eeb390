"""The operator's commands: `dead …`, `cancel`, `batch`, `stats`."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any

import click

from postroom.cli import output as show
from postroom.cli.options import BY, JSON, WHY, fail, json_option, pairs, since_option, time_option
from postroom.client import Client
from postroom.errors import PostroomError
from postroom.operations import stats
from postroom.operations.dead_letters import DeadLetters, Selection
from postroom.settings.loading import load_settings
from postroom.store.connection import connect
from postroom.store.operator import Order, Reply

PROBE_TIMEOUT_S = 2.0
SAID = 20  # refusals that are told one by one

_EXPLAINED = {
    "unknown": "no such job, or its record is past its retention",
    "not_dead": "neither dead nor expired",
    "no_mail": "what came was no mail; change what is wrong with it (--to, --from, --edit …)",
    "past_expiry": "past its expiry; give --expires, a time or never",
    "busy": "its draft is being removed just now; try again in a minute",
    "in_doubt": (
        "it may have been sent. Requeue it unchanged, and it is looked up first; or look into Sent Items for its id "
        "(header x-postroom-job), and if a second copy is right, add --may-send-twice"
    ),
}

COMMANDS: list[click.Command] = []


Command = Callable[..., None]


def _filters(command: Command) -> Command:
    options: list[Callable[[Command], Command]] = [
        click.option("--reason", help="Only those with this reason; expired: those that expired."),
        click.option("--sender", help="Only those from this address."),
        click.option("--batch", help="Only those of this batch."),
        click.option("--since", metavar="TIME", help="Only those that ended since: an ISO time, or a time ago as 2h."),
    ]
    return reduce(lambda inner, option: option(inner), reversed(options), command)


def _selected(command: Command) -> Command:
    """Jobs by their ids, or by filters; and how it is done."""
    options: list[Callable[[Command], Command]] = [
        click.argument("job_ids", nargs=-1, metavar="[ID…]"),
        _filters,
        click.option("--all", "everything", is_flag=True, help="Every dead letter."),
        click.option("--dry-run", is_flag=True, help="Only say what would be done."),
        BY,
    ]
    return reduce(lambda inner, option: option(inner), reversed(options), command)


@click.group()
def dead() -> None:
    """List dead letters, send them again, change one, or let go of them."""


COMMANDS.append(dead)


@dead.command("list")
@_filters
@click.option("--limit", type=click.IntRange(0, 10000), default=25, show_default=True, help="At most so many jobs.")
@JSON
def list_(limit: int, as_json: bool, **filters: Any) -> None:
    """Show how many there are of each reason, and the newest."""
    found = DeadLetters.from_env().overview(_selection(**filters), limit)
    if as_json:
        click.echo(show.as_json(found))
        return
    console = show.console()
    console.print(show.dead_letters(found, console.width))


@dead.command("show")
@click.argument("job_id")
@click.option("--content", is_flag=True, help="Show bodies, variables and files as well.")
@JSON
def show_(job_id: str, content: bool, as_json: bool) -> None:
    """Show all that is known of a job: attempts, its mail without content, and who did what."""
    letter = DeadLetters.from_env().show(job_id, content=content)
    if as_json:
        click.echo(show.as_json(letter))
    else:
        show.console().print(show.letter(letter))


@dead.command()
@_selected
@WHY
@click.option("--expires", help="A new expiry, where the old one has passed: an ISO time, 2h from now, or never.")
@click.option("--may-send-twice", "twice", is_flag=True, help="Send at once what may have been sent already.")
@click.option("--to", multiple=True, help="Send ONE letter, changed: the recipients instead of those it has.")
@click.option("--cc", multiple=True, help="The same for recipients of a copy.")
@click.option("--bcc", multiple=True, help="The same for recipients of a copy whom the others do not see.")
@click.option("--from", "from_", help="Another mailbox that it leaves from.")
@click.option("--subject", help="Another subject.")
@click.option("--template", help="Another template.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the template.")
@click.option("--edit", metavar="JSON", help="Any fields of the mail, as an object; null leaves a field out.")
@JSON
def requeue(
    job_ids: tuple[str, ...],
    everything: bool,
    dry_run: bool,
    by: str | None,
    why: str | None,
    expires: str | None,
    twice: bool,
    edit: str | None,
    variables: tuple[str, ...],
    as_json: bool,
    **given: Any,
) -> None:
    """Send dead letters again, once their cause is mended.

    Name jobs, or give filters. A job keeps its id, its key and its history, and begins with all its attempts. A letter
    with changes becomes a new job, which takes the old one's key. What may have been sent is looked up first.
    """
    until = _expiry(expires)
    filters = {name: given.pop(name) for name in ("reason", "sender", "batch", "since")}
    changes = {("from" if name == "from_" else name): value for name, value in given.items() if value}
    if edit:
        changes |= json_option("--edit", edit)
    if variables:
        changes["variables"] = pairs("--var", variables)
    letters, order = DeadLetters.from_env(), Order.here(by, why)
    if changes:
        if len(job_ids) != 1 or everything or any(filters.values()):
            raise click.UsageError("Changes are for one letter: name its id.")
        if until:
            changes["expires_at"] = None if until == "never" else until
        said, new_id = letters.change(job_ids[0], changes, order, twice=twice, dry_run=dry_run)
        _tell_changed(job_ids[0], said, new_id, dry_run=dry_run, as_json=as_json)
        return
    chosen = _chosen(letters, job_ids, everything=everything, **filters)
    replies = letters.requeue(chosen, order, expires=until, twice=twice, dry_run=dry_run)
    words = {"requeued": "requeued", "look_up": "may have been sent: to be looked up, then sent if they are not found"}
    _tell(replies, words, named=bool(job_ids), dry_run=dry_run, as_json=as_json)


@dead.command()
@_selected
@click.option("--why", required=True, help="Why, for the audit.")
@JSON
def discard(
    job_ids: tuple[str, ...],
    everything: bool,
    dry_run: bool,
    by: str | None,
    why: str,
    as_json: bool,
    **filters: Any,
) -> None:
    """Let go of dead letters: they are cancelled, and their mail is removed.

    Name jobs, or give filters. Their records stay for POSTROOM_RETENTION_ACCEPTED.
    """
    letters, order = DeadLetters.from_env(), Order.here(by, why)
    chosen = _chosen(letters, job_ids, everything=everything, **filters)
    replies = letters.discard(chosen, order, dry_run=dry_run)
    _tell(replies, {"discarded": "discarded"}, named=bool(job_ids), dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("job_ids", nargs=-1, metavar="[ID…]")
@click.option("--batch", help="All jobs of this batch.")
@BY
@WHY
@JSON
def cancel(job_ids: tuple[str, ...], batch: str | None, by: str | None, why: str | None, as_json: bool) -> None:
    """Cancel jobs that have not been sent yet.

    Exit 1 if it is too late for one that was named. Of a batch it stops what has not left, and says how much had.
    """
    if bool(batch) == bool(job_ids):
        raise click.UsageError("Name jobs, or a batch with --batch.")
    client = Client.from_env()
    if batch:
        _exists(client, batch)
        told = client.cancel_batch(batch, by=by, why=why)
        click.echo(show.as_json(told) if as_json else show.batch_cancelled(told))
        return
    ended, failed = [], False
    for job_id in job_ids:
        try:
            ended.append(client.cancel(job_id, by=by, why=why))
        except PostroomError as error:
            failed = True
            click.echo(str(error), err=True)
    if as_json:
        click.echo(show.as_json(ended))
    elif ended:
        console = show.console()
        console.print(show.jobs(ended, console.width))
    sys.exit(1 if failed else 0)


COMMANDS.append(cancel)


@click.command("batch")
@click.argument("batch", metavar="ID")
@JSON
def batch_(batch: str, as_json: bool) -> None:
    """Count the jobs of a batch by state."""
    client = Client.from_env()
    counts = _exists(client, batch)
    if as_json:
        click.echo(show.as_json(counts))
    else:
        show.console().print(show.batch(counts))


COMMANDS.append(batch_)


@click.command("stats")
@click.option("--lanes", type=click.IntRange(0, 1000), default=10, show_default=True, help="The longest so many lanes.")
@click.option("--ready", is_flag=True, help="Only ask whether a worker is alive; exit 1 if none ticked for 15 s.")
@click.option("--here", is_flag=True, help="With --ready: one of this machine (or container).")
@JSON
def stats_(lanes: int, ready: bool, here: bool, as_json: bool) -> None:
    """Show workers, what waits in which lane, and counts of jobs."""
    if here and not ready:
        raise click.UsageError("--here goes with --ready.")
    found = load_settings()
    connection = connect(found.redis_url, timeout_s=PROBE_TIMEOUT_S, name="postroom-stats")
    if ready:
        _readiness(stats.alive(connection, os.uname().nodename if here else None), here=here, as_json=as_json)
        return
    told = stats.read(connection, lanes)
    if as_json:
        click.echo(show.as_json(told))
        return
    console = show.console()
    console.print(show.stats(told, console.width))


COMMANDS.append(stats_)


def _selection(reason: str | None, sender: str | None, batch: str | None, since: str | None) -> Selection:
    return Selection(reason=reason, sender=sender, batch=batch, since=since_option("--since", since))


def _chosen(letters: DeadLetters, job_ids: tuple[str, ...], *, everything: bool, **filters: Any) -> Iterable[str]:
    filtered = any(filters.values())
    if bool(job_ids) + everything + filtered != 1:
        raise click.UsageError("Name jobs, or give filters (--reason, --sender, --batch, --since), or --all.")
    return job_ids or letters.select(_selection(**filters))


def _expiry(text: str | None) -> Any:
    return text if text in (None, "never") else time_option("--expires", text)


def _exists(client: Client, batch: str) -> Any:
    counts = client.batch(batch)
    if not counts.total:
        fail(1, f"No job of a batch {batch!r}: its name is wrong, or its records are past their retention.")
    return counts


def _tell(replies: Iterator[Reply], words: dict[str, str], *, named: bool, dry_run: bool, as_json: bool) -> None:
    """Says what came of an order; exit 1 if one of the jobs was left as it is."""
    counts, left, broken = Counter[str](), list[Reply](), False
    try:
        for reply in replies:
            counts[reply.said] += 1
            if reply.said not in words and len(left) < SAID:
                left.append(reply)
    except KeyboardInterrupt:
        broken = True
    if as_json:
        refused = [reply._asdict() for reply in left]
        click.echo(show.as_json({"dry_run": dry_run, "counts": dict(counts), "refused": refused}))
    else:
        _tell_people(counts, words, left, dry_run=dry_run)
    if broken:
        fail(1, "Interrupted. Run it again for the rest.")
    # what a filter found and somebody else took meanwhile is no failure
    sys.exit(1 if any(said not in words and (named or said != "not_dead") for said in counts) else 0)


def _tell_people(counts: Counter[str], words: dict[str, str], left: list[Reply], *, dry_run: bool) -> None:
    if not counts:
        click.echo("No such dead letters.", err=True)
    for said, what in words.items():
        if counts[said]:
            click.echo(f"{'Would be: ' if dry_run else ''}{counts[said]:,} {what}.")
    for said in (said for said in counts if said not in words):
        click.echo(f"{counts[said]:,} left as they are: {_EXPLAINED[said]}.", err=True)
        for reply in left:
            if reply.said == said:
                click.echo(f"  {reply.id} {reply.status}".rstrip(), err=True)


def _tell_changed(job_id: str, said: str, new_id: str, *, dry_run: bool, as_json: bool) -> None:
    if said != "replaced":
        fail(1, f"Job {job_id} was left as it is: {_EXPLAINED[said]}.")
    if as_json:
        click.echo(show.as_json({"dry_run": dry_run, "id": None if dry_run else new_id, "requeued_from": job_id}))
    elif dry_run:
        click.echo("Would be: sent as a new job with these changes.")
    else:
        click.echo(f"{new_id} is the new job; {job_id} is cancelled.")


def _readiness(workers: list[stats.Worker], *, here: bool, as_json: bool) -> None:
    where = " of this machine" if here else ""
    if as_json:
        click.echo(show.as_json({"ready": bool(workers), "workers": len(workers)}))
    elif workers:
        click.echo(f"Ready: workers{where} that tick: {len(workers)}.")
    if not workers:
        fail(1, f"Not ready: no worker{where} has ticked for {stats.LOST_AFTER_S:.0f} s.")
