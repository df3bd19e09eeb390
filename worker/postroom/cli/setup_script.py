"""`postroom setup script` and `test`: the set-up as files to review, and a mail from each sender."""

from pathlib import Path

import click

from postroom.cli.job_output import print_job
from postroom.cli.options import duration_option, fail
from postroom.cli.printable import say
from postroom.client import Client
from postroom.jobs.job import Delivery, Status
from postroom.mail.address import Address
from postroom.mail.model import Mail
from postroom.settings.loading import load_settings
from postroom.settings.model import Settings
from postroom.setup.scripts import Asked, files
from postroom.setup.wanted import Feature


@click.command()
@click.option("--name", default="Postroom", show_default=True, help="The app's name.")
@click.option("--mailbox", "mailboxes", multiple=True, help="A mailbox that it may send from; several times.")
@click.option("--group", "groups", multiple=True, help="The same, for the members of a group.")
@click.option("--admin-unit", "units", multiple=True, help="The same, for an administrative unit.")
@click.option("--features", default="", help="What it may do besides, with commas between: draft, look-up, trace.")
@click.option("--legacy", is_flag=True, help="By an Application Access Policy, for a tenant that still has them.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("postroom-setup"),
    show_default=True,
    help="The folder for the files.",
)
def script(
    name: str,
    mailboxes: tuple[str, ...],
    groups: tuple[str, ...],
    units: tuple[str, ...],
    features: str,
    legacy: bool,
    out: Path,
) -> None:
    """Write the set-up as files to review and run by hand.

    entra.sh (Azure CLI) or main.tf (Terraform) register the app; exchange.ps1 (Exchange Online PowerShell) lets it work
    with the mailboxes. Nobody signs in for this, and nothing is asked.
    """
    if not (mailboxes or groups or units):
        raise click.UsageError("Say from where it may send: --mailbox, --group or --admin-unit.")
    if legacy and not groups:
        raise click.UsageError("An Application Access Policy is for a group: --group.")
    try:
        chosen = frozenset(Feature(part.strip()) for part in features.split(",") if part.strip())
    except ValueError as error:
        raise click.BadParameter(f"{error}; there are {', '.join(Feature)}", param_hint="--features") from None
    asked = Asked(name=name, mailboxes=mailboxes, groups=groups, units=units, features=chosen, legacy=legacy)
    out.mkdir(parents=True, exist_ok=True)
    for file, text in files(asked).items():
        (out / file).write_text(text, encoding="utf-8")
        say(str(out / file))


@click.command()
@click.option("--to", required=True, help="Who gets the mails; you, best.")
@click.option("--from", "senders", multiple=True, help="A sender; all of the settings if not given.")
@click.option("--timeout", default="2min", show_default=True, help="How long each mail is waited for.")
def test(to: str, senders: tuple[str, ...], timeout: str) -> None:
    """Send one mail from each sender, and follow each to its end. Workers have to run."""
    patience_s = duration_option("--timeout", timeout)
    chosen = senders or tuple(map(str, _senders(load_settings())))
    if not chosen:
        fail(2, "No sender is set: POSTROOM_SENDER, [senders] in postroom.toml, or --from.")
    client = Client.from_env()
    jobs = {sender: client.send(_mail(sender, to)).id for sender in chosen}
    failed = [sender for sender, job in jobs.items() if not _ended_well(client, sender, job, patience_s)]
    if failed:
        fail(1, f"{len(failed)} of {len(jobs)} senders could not send: {', '.join(failed)}")
    say(f"Microsoft 365 has accepted a mail from {', '.join(jobs)}. See whether {to} gets it.")


def _senders(settings: Settings) -> list[Address]:
    """All senders of the settings; one that stands for a whole domain is its mailbox."""
    found = [
        given.mailbox or sender if sender.address.startswith("*@") else sender
        for sender, given in settings.senders.items()
    ]
    return list(dict.fromkeys([*([settings.sender] if settings.sender else []), *found]))


def _mail(sender: str, to: str) -> Mail:
    text = f"This mail shows that Postroom can send from {sender}. Nobody needs to answer it."
    return Mail.model_validate({"from": sender, "to": [to], "subject": f"Test from {sender}", "text": text})


def _ended_well(client: Client, sender: str, job: str, patience_s: float) -> bool:
    try:
        delivery: Delivery = client.wait(job, patience_s)
    except TimeoutError:
        delivery = client.status(job)
    say(f"{sender}:")
    print_job(delivery, as_json=False)
    return delivery.status is Status.ACCEPTED
