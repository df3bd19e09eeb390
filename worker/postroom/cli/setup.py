"""`postroom setup`: registers the app in Microsoft 365 that mail is sent with, and undoes it."""

from collections.abc import Callable
from datetime import UTC, datetime

import click

from postroom.cli.options import fail
from postroom.cli.printable import printable, say
from postroom.cli.setup_certificates import certificate, rotate
from postroom.cli.setup_place import Place, files_options, place_options, sign_in
from postroom.cli.setup_script import script, test
from postroom.graph.credentials import Certificate, Identity
from postroom.graph.tokens import Tokens
from postroom.setup.apply import Site, apply, undo
from postroom.setup.evidence import May, Shown, gather
from postroom.setup.files import Files
from postroom.setup.look import Looker
from postroom.setup.plan import Found, Step, steps
from postroom.setup.senders import resolve
from postroom.setup.sign_in import SignedIn
from postroom.setup.wanted import TRACE, Feature, Wanted

MOST_PROVED = 20

YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group()
def setup() -> None:
    """Set up Microsoft 365: an app that may send from chosen mailboxes.

    postroom setup app --name "Mail worker" --senders mail-senders@contoso.com
    """


for _command in (certificate, rotate, script, test):
    setup.add_command(_command)


@setup.command()
@files_options
@click.option("--senders", multiple=True, metavar="MAILBOX|GROUP", help="From where it may send; several times.")
@click.option("--admin-unit", "units", multiple=True, metavar="UNIT", help="The same, for an administrative unit.")
@click.option("--features", default="", help="What it may do besides, with commas between: draft, look-up, trace.")
@click.option("--days", type=click.IntRange(1, 1095), default=365, show_default=True, help="The certificate's life.")
@click.option("--outside", help="A mailbox to show that the app may not use; yours if not given.")
@click.option("--dry-run", is_flag=True, help="Show the plan, and change nothing.")
@YES
@place_options
def app(
    place: Place,
    files: Files,
    senders: tuple[str, ...],
    units: tuple[str, ...],
    features: str,
    days: int,
    outside: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Register an app that may send from these mailboxes, and nothing else.

    Shows what will be done, what each step allows, and what somebody could do with it who has stolen the key. Asks,
    does it, and shows that the app may send from there only. Killed anywhere and run again, it comes to the same end.
    """
    if not senders and not units:
        raise click.UsageError("Say from where it may send: --senders MAILBOX or GROUP, or --admin-unit UNIT.")
    chosen = _features(features)
    person = sign_in(place)
    site = _site(place, person, files)
    scopes = resolve(site.directory, list(senders), list(units))
    wanted = Wanted(name=files.name, scopes=scopes, features=chosen, certificate_days=days)
    found = site.looker.look(files.name, files)
    todo = steps(wanted, found, datetime.now(UTC))
    _show_plan(wanted, todo, files)
    if dry_run:
        say("Nothing was changed (--dry-run).")
        return
    if todo and (faults := files.settings_faults()):
        fail(1, *faults, "Name another file with --settings (postroom.toml for a further app). Nothing was changed.")
    if todo:
        _ask(yes)
    found = apply(site, wanted, lambda step: say(f"… {step.what}"), _agreement(yes))
    say(f"The app {files.name!r} is as it was asked for: client {found.app_id}, tenant {person.tenant_id}.")
    _prove(place, person, wanted, found, files, outside)


@setup.command(name="undo")
@files_options
@YES
@place_options
def undo_(place: Place, files: Files, yes: bool) -> None:
    """Remove the app, its roles, its key's file and its settings. Nothing is left."""
    person = sign_in(place)
    site = _site(place, person, files)
    found = site.looker.look(files.name, files)
    if found.object_id:
        say(f"The app {files.name!r} (client {found.app_id}) will be removed, for good. Then mail by it is held.")
    else:
        say(f"There is no app {files.name!r}; what is left of it will be removed.")
    _ask(yes)
    for removed in undo(site, files.name):
        say(f"… removing {removed}")
    say("Nothing of it is left.")
    if TRACE in found.grants:
        say("Microsoft's own service principal for message traces stays: other apps may need it.")


def _ask(yes: bool) -> None:
    if not yes and not click.confirm("Do this?"):
        fail(1, "Nothing was changed.")


def _site(place: Place, person: SignedIn, files: Files) -> Site:
    directory = place.directory(person)
    return Site(directory, Looker(directory), files, person.tenant_id)


def _features(text: str) -> frozenset[Feature]:
    try:
        return frozenset(Feature(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise click.BadParameter(f"{error}; there are {', '.join(Feature)}", param_hint="--features") from None


def _agreement(yes: bool) -> Callable[[Step], bool]:
    def agree(step: Step) -> bool:
        return yes or click.confirm(printable(f"Also {step.what}?"), default=True)

    return agree


def _show_plan(wanted: Wanted, todo: list[Step], files: Files) -> None:
    for scope in wanted.scopes:
        boxes = ", ".join(scope.mailboxes[:10]) + (" …" if len(scope.mailboxes) > 10 else "")
        say(f"Senders: {scope.label}{f' ({boxes})' if boxes and boxes != scope.label else ''}")
        if scope.warning:
            say(f"  WARNING: {scope.warning}", colour="yellow")
    if not todo:
        say("All of it is there already.")
        return
    say(f"Files: {files.certificate} (key and certificate), {files.settings} (settings)")
    say("")
    for number, step in enumerate(todo, 1):
        click.secho(f"{number:2}. ", nl=False, bold=True)
        say(step.what)
        say(f"    allows: {step.allows}")
        say(f"    a thief of the key could: {step.attacker}")
    say("")


def _prove(place: Place, person: SignedIn, wanted: Wanted, found: Found, files: Files, outside: str | None) -> None:
    inside = list(dict.fromkeys(box for scope in wanted.scopes for box in scope.mailboxes))[:MOST_PROVED]
    others = [box for box in (outside or person.person,) if box and box.casefold() not in map(str.casefold, inside)]
    identity = Identity(
        tenant_id=person.tenant_id,
        client_id=found.app_id,
        authority_url=place.authority_url,
        graph_url=place.graph_url,
        credential=Certificate(files.certificate),
    )
    shown = gather(place.http, place.graph_url, Tokens(identity, place.http), inside, others)
    if isinstance(shown, str):
        fail(1, f"It cannot be shown yet ({shown}). Entra may need some minutes; run the same command again.")
    for one in shown:
        say(f"  {_told(one)}", colour={True: "green", False: "red", None: "yellow"}[one.as_wanted])
    if any(one.should and one.may is May.NO for one in shown):
        say("Exchange needs up to 30 minutes until a new role counts, and 2 hours if the app is in use already.")
        say("Run the same command again then; it changes nothing and shows this again.")
    if any(not one.should and one.may is May.YES for one in shown):
        fail(
            1, "The app may send from more mailboxes than it should: a permission in Entra or another role opens them."
        )
    if not others:
        say("No mailbox outside was tried; name one with --outside.")


def _told(one: Shown) -> str:
    wanted = "should" if one.should else "should not"
    return f"{one.mailbox}: {one.may} ({wanted}; Graph answered {one.answer})"
