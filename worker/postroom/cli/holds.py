"""`postroom hold`, `release` and `holds`."""

from collections.abc import Sequence

import click
from rich.table import Table

from postroom.cli.job_output import SCOPE_NAMES, probe_text
from postroom.cli.options import JSON, duration_option
from postroom.cli.output import ENDLESS, columns_table, open_console, printed, short_time, time_text, to_json_text
from postroom.cli.printable import say
from postroom.client import Client
from postroom.jobs.job import Hold
from postroom.mail.address import Address
from postroom.store.operator import Actor, HoldResult, ReleaseResult


@click.command()
@click.argument("sender", required=False)
@click.option("--batch", help="Hold this batch, instead of a sender.")
@click.option("--reason", default="", help="What others shall read.")
@click.option(
    "--for", "length", metavar="TIME", help="Release it after this time, such as 2h; without it, somebody must."
)
@JSON
def hold(sender: str | None, batch: str | None, reason: str, length: str | None, as_json: bool) -> None:
    """Hold the mail of a sender, or of a batch.

    New mail is still taken in. Mail that is just being sent is not held. `postroom release` ends the hold.
    """
    _one_of(sender, batch)
    length_s = duration_option("--for", length) if length else None
    client = Client.from_env()
    kept = client.hold(
        sender=sender and _address(sender), batch=batch, by=Actor.here().by, reason=reason, length_s=length_s
    )
    say(to_json_text(kept) if as_json else hold_message(kept, of_batch=batch is not None))


@click.command()
@click.argument("sender", required=False)
@click.option("--batch", help="Release this batch, instead of a sender.")
@JSON
def release(sender: str | None, batch: str | None, as_json: bool) -> None:
    """Release held mail.

    If a fault holds a mailbox or its app, it is tried at once. The hold ends if the try succeeds.
    """
    _one_of(sender, batch)
    released = Client.from_env().release(sender=sender, batch=batch)
    say(to_json_text(released) if as_json else release_message(released))


@click.command()
@JSON
def holds(as_json: bool) -> None:
    """List all holds: by a fault until it is repaired, or by a person."""
    held = Client.from_env().holds()
    if as_json:
        say(to_json_text(held))
    elif held:
        console = open_console()
        console.print(holds_table(held, console.width))
    else:
        say("Nothing is held.", err=True)


def _one_of(sender: str | None, batch: str | None) -> None:
    if bool(sender) == bool(batch):
        raise click.UsageError("give a sender, or --batch with the name of one")
    if sender and "@" not in sender:
        raise click.UsageError(f"{sender!r} is no address; is it a batch (--batch {sender})?")


def _address(text: str) -> str:
    try:
        return Address.parse(text).address
    except ValueError as error:
        raise click.UsageError(f"{text!r} is {error}") from None


def holds_table(holds: Sequence[Hold], width: int) -> Table:
    """One line per hold."""
    when = time_text if width == ENDLESS else short_time
    columns = {
        "held": [printed(one.name) for one in holds],
        "what": [printed(SCOPE_NAMES[one.scope]) for one in holds],
        "reason": [printed(f"{one.reason}: {one.detail}" if one.detail else one.reason) for one in holds],
        "by": [printed(one.by or "a fault") for one in holds],
        "since": [printed(when(one.since)) for one in holds],
        "until": [printed(when(one.until)) for one in holds],
        "next probe": [printed(probe_text(one, when)) for one in holds],
        "waiting": [printed(str(one.waiting)) for one in holds],
    }
    return columns_table(columns, (), width, unbroken="waiting")


def hold_message(one: HoldResult, *, of_batch: bool) -> str:
    """How many mails a new hold keeps, and how many it was too late for, as text."""
    late = {"being sent": one.sending}
    if of_batch:
        late |= {"accepted": one.accepted, "ended otherwise": one.ended}
    late_text = ", ".join(f"{number} {word}" for word, number in late.items() if number)
    if of_batch and not (late_text or one.waiting):
        return f"{one.name} is held; no mail of a batch of this name was taken in yet"
    return f"{one.name} is held: {one.waiting} waiting" + (f"; too late for {late_text}" if late_text else "")


def release_message(one: ReleaseResult) -> str:
    """The result of a release, as text."""
    lines = [f"{one.name} is released"] if one.was_held else []
    if one.probed:
        what = "it" if one.probed == "lane" else "its app"
        lines.append(f"{one.name}: a fault holds {what}, which is tried now; postroom holds shows whether it goes on")
    return "\n".join(lines) or f"{one.name} was not held"
