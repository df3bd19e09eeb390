"""The operator's commands: `dead …`, `cancel`, `batch`, `stats`."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.table import Table

from postroom.cli.job_output import answer_text, job_details, jobs_table
from postroom.cli.options import BY, JSON, WHY, fail, json_option, pairs, since_option, time_option
from postroom.cli.output import GAP, columns_table, open_console, printed, short_time, to_json_text
from postroom.cli.printable import say
from postroom.jobs.job_filter import JobFilter
from postroom.operations.dead_letters import DeadLetters, Letter, Overview, selection
from postroom.store.operator import Actor, Reply

SAID = 20  # refusals that are listed one by one

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
    """Options that select jobs by ids or by filters, and options of the action."""
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
    """List dead letters, send them again, change one, or discard them."""


@dead.command("list")
@_filters
@click.option("--limit", type=click.IntRange(0, 10000), default=25, show_default=True, help="At most so many jobs.")
@JSON
def list_(limit: int, as_json: bool, **filters: Any) -> None:
    """Show the number of dead letters of each reason, and the newest ones."""
    overview = DeadLetters.from_env().overview(_selection(**filters), limit)
    if as_json:
        say(to_json_text(overview))
        return
    console = open_console()
    console.print(dead_letters_overview(overview, console.width))


@dead.command("show")
@click.argument("job_id")
@click.option("--content", is_flag=True, help="Show bodies, variables and files as well.")
@JSON
def show_(job_id: str, content: bool, as_json: bool) -> None:
    """Show everything about a job: attempts, its mail without content, and who did what."""
    letter = DeadLetters.from_env().show(job_id, content=content)
    if as_json:
        say(to_json_text(letter))
    else:
        open_console().print(letter_details(letter))


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
    """Send dead letters again, when their cause is fixed.

    Name jobs, or give filters. A job keeps its id, its key and its history, and has its full number of attempts again.
    A letter with changes becomes a new job, which takes over the old one's key. A mail that may have been sent is
    looked up first.
    """
    until = _expiry(expires)
    filters = {name: given.pop(name) for name in ("reason", "sender", "batch", "since")}
    changes = {("from" if name == "from_" else name): value for name, value in given.items() if value}
    if edit:
        changes |= json_option("--edit", edit)
    if variables:
        changes["variables"] = pairs("--var", variables)
    letters, actor = DeadLetters.from_env(), Actor.here(by, why)
    if changes:
        if len(job_ids) != 1 or everything or any(filters.values()):
            raise click.UsageError("Changes are for one letter: name its id.")
        if until:
            changes["expires_at"] = None if until == "never" else until
        outcome, new_id = letters.change(job_ids[0], changes, actor, twice=twice, dry_run=dry_run)
        _tell_changed(job_ids[0], outcome, new_id, dry_run=dry_run, as_json=as_json)
        return
    chosen = _chosen(letters, job_ids, everything=everything, **filters)
    replies = letters.requeue(chosen, actor, expires=until, twice=twice, dry_run=dry_run)
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
    """Discard dead letters: they are cancelled, and their mail is removed.

    Name jobs, or give filters. Their records stay for POSTROOM_RETENTION_ACCEPTED.
    """
    letters, actor = DeadLetters.from_env(), Actor.here(by, why)
    chosen = _chosen(letters, job_ids, everything=everything, **filters)
    replies = letters.discard(chosen, actor, dry_run=dry_run)
    _tell(replies, {"discarded": "discarded"}, named=bool(job_ids), dry_run=dry_run, as_json=as_json)


def _selection(reason: str | None, sender: str | None, batch: str | None, since: str | None) -> JobFilter:
    return selection(
        reason=reason, senders=(sender,) if sender else (), batch=batch, since=since_option("--since", since)
    )


def _chosen(letters: DeadLetters, job_ids: tuple[str, ...], *, everything: bool, **filters: Any) -> Iterable[str]:
    filtered = any(filters.values())
    if bool(job_ids) + everything + filtered != 1:
        raise click.UsageError("Name jobs, or give filters (--reason, --sender, --batch, --since), or --all.")
    return job_ids or letters.select(_selection(**filters))


def _expiry(text: str | None) -> Any:
    return text if text in (None, "never") else time_option("--expires", text)


def _tell(replies: Iterator[Reply], words: dict[str, str], *, named: bool, dry_run: bool, as_json: bool) -> None:
    """Prints the result of an action. Exit 1 if one of the jobs was not changed."""
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
        say(to_json_text({"dry_run": dry_run, "counts": dict(counts), "refused": refused}))
    else:
        _tell_people(counts, words, left, dry_run=dry_run)
    if broken:
        fail(1, "Interrupted. Run it again for the rest.")
    # it is no failure if somebody else has handled a job in the meantime that a filter found
    sys.exit(1 if any(said not in words and (named or said != "not_dead") for said in counts) else 0)


def _tell_people(counts: Counter[str], words: dict[str, str], left: list[Reply], *, dry_run: bool) -> None:
    if not counts:
        say("No such dead letters.", err=True)
    for said, what in words.items():
        if counts[said]:
            say(f"{'Would be: ' if dry_run else ''}{counts[said]:,} {what}.")
    for said in (said for said in counts if said not in words):
        say(f"{counts[said]:,} left as they are: {_EXPLAINED[said]}.", err=True)
        for reply in left:
            if reply.said == said:
                say(f"  {reply.id} {reply.status}".rstrip(), err=True)


def _tell_changed(job_id: str, outcome: str, new_id: str, *, dry_run: bool, as_json: bool) -> None:
    if outcome != "replaced":
        fail(1, f"Job {job_id} was left as it is: {_EXPLAINED[outcome]}.")
    if as_json:
        say(to_json_text({"dry_run": dry_run, "id": None if dry_run else new_id, "requeued_from": job_id}))
    elif dry_run:
        say("Would be: sent as a new job with these changes.")
    else:
        say(f"{new_id} is the new job; {job_id} is cancelled.")


def letter_details(one: Letter) -> RenderableType:
    """One job with its mail, all its attempts, and the actions of people."""
    parts: list[RenderableType] = [job_details(one.job)]
    if one.mail is not None:
        fields = Table.grid(padding=(0, GAP))
        fields.add_column(style="dim")
        fields.add_column(overflow="fold")
        for name, value in one.mail.items():
            text = ", ".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value
            fields.add_row(name, printed(text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)))
        parts += [printed("\nIts mail", style="bold"), fields]
    else:
        parts.append(printed("\nIts mail is no longer kept.", style="dim"))
    return Group(*parts)


def dead_letters_overview(overview: Overview, width: int) -> RenderableType:
    """The number of dead letters of each reason, and the newest ones."""
    if not overview.total:
        return printed("No such dead letters.")
    one = overview.total == 1
    in_doubt = [printed(f"{kind.in_doubt:,}" if kind.in_doubt else "") for kind in overview.reasons]
    parts: list[RenderableType] = [
        printed(f"{overview.total:,} dead letter{'' if one else 's'}\n", style="bold"),
        columns_table(
            {
                "reason": [printed(kind.reason, style="red") for kind in overview.reasons],
                "mails": [printed(f"{kind.count:,}") for kind in overview.reasons],
                "newest": [
                    printed(short_time(kind.newest.ended_at) if kind.newest else "") for kind in overview.reasons
                ],
                "answer": [printed(answer_text(kind.newest) if kind.newest else "") for kind in overview.reasons],
                "such as": [printed(kind.newest.id if kind.newest else "") for kind in overview.reasons],
                "may have been sent": in_doubt,
            },
            ("may have been sent", "answer", "newest"),
            width,
        ),
    ]
    if overview.letters:
        head = "The newest" if len(overview.letters) < overview.total else "All of them"
        parts += [printed(f"\n{head}\n", style="bold"), jobs_table(overview.letters, width)]
    return Group(*parts)
