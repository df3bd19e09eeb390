"""`postroom check`: checks the settings and the files that they name, and lists all faults at once."""

from datetime import UTC, datetime
from itertools import chain

import click

from postroom.cli.printable import say
from postroom.errors import ConfigError
from postroom.graph.credentials import ends_soon
from postroom.render import Templates
from postroom.settings.loading import load_settings
from postroom.settings.model import Settings
from postroom.store.connection import connect
from postroom.store.durability import weaknesses
from postroom.store.server_check import redis_faults
from postroom.wiring import apps, identity, result_backend_faults, transport, unusable_apps


@click.command()
@click.option("--redis", "with_redis", is_flag=True, help="Also ask whether Redis answers.")
@click.option("--producer", is_flag=True, help="Leave out what only a worker needs.")
def check(with_redis: bool, producer: bool) -> None:
    """Check the settings, and list all faults at once."""
    settings = load_settings()
    facts: list[str] = []
    if not producer:
        faults, facts = configuration(settings, datetime.now(UTC))
        if faults:
            raise ConfigError(faults)
    if with_redis:
        connection = connect(settings.redis_url, timeout_s=3.0, name="postroom-check")
        if faults := redis_faults(connection):
            raise ConfigError(faults)
        facts += ["Redis answers.", *(f"WARNING: {weakness}" for weakness in weaknesses(connection))]
    for fact in facts:
        say(fact)
    click.secho("The settings are right.", fg="green", nl=False)
    say(f" Not asked: {_not_asked(with_redis=with_redis, producer=producer)}.")


def _not_asked(*, with_redis: bool, producer: bool) -> str:
    """What may still be wrong though the settings are right."""
    redis = [] if with_redis else ["Redis (--redis)"]
    world = [] if producer else ["Entra, Graph, mailboxes and the apps' rights (postroom doctor)"]
    return "; ".join([*redis, *world]) or "whether workers run (postroom stats --ready)"


def configuration(settings: Settings, now: datetime) -> tuple[list[str], list[str]]:
    """The faults of a worker's settings and of the files that they name, and a summary of the settings."""
    unusable = unusable_apps(settings, now)
    faults = settings.worker_faults() + result_backend_faults(settings) + list(chain.from_iterable(unusable.values()))
    facts = []
    try:
        facts.append(f"HTTP: {transport(settings).name}")
    except ConfigError as error:
        faults += error.faults
    for name, app in apps(settings).items():
        who = identity(app)
        facts.append(
            f"app {name}: {app.kind} of client {who.client_id or '(system)'} at {who.authority_url}, {who.graph_url}"
        )
        if name not in unusable and (warning := ends_soon(who, now)):
            facts.append(f"app {name}: WARNING {warning}")
    if settings.smtp or settings.smtp_allow:
        faults += settings.smtp_faults(over_tls=False)
    for sender, given in settings.senders.items():
        seen = f"; recipients see {given.mailbox}" if given.mailbox and given.mailbox != sender else ""
        facts.append(f"sender {sender}: mailbox {given.mailbox or sender}, app {given.app}{seen}")
    if settings.redirect_all_to:
        facts.append(
            f"WARNING: all mail goes to {settings.redirect_all_to} instead of its recipients (POSTROOM_REDIRECT_ALL_TO)"
        )
    names = Templates(settings.templates).names() if settings.templates.is_dir() else []
    facts.append(f"templates in {settings.templates}: {', '.join(names) or 'none'}")
    return faults, facts
