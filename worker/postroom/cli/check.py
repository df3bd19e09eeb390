"""`postroom check`: checks the settings and the files that they name, and lists all faults at once."""

from datetime import UTC, datetime

import click

from postroom.errors import ConfigError
from postroom.graph.credentials import check_credential, ends_soon
from postroom.jobs.job_filter import JobFilter
from postroom.render import Templates
from postroom.settings.loading import load_settings
from postroom.settings.model import Settings
from postroom.store.connection import connect
from postroom.store.durability import weaknesses
from postroom.store.queries import Records
from postroom.wiring import identity, transport


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
        Records(connection).newest(JobFilter(), 1)
        facts += ["Redis answers.", *(f"WARNING: {weakness}" for weakness in weaknesses(connection))]
    for fact in facts:
        click.echo(fact)
    click.secho("The settings are right.", fg="green")


def configuration(settings: Settings, now: datetime) -> tuple[list[str], list[str]]:
    """The faults of a worker's settings and of the files that they name, and a summary of the settings."""
    faults = settings.worker_faults()
    facts = []
    try:
        facts.append(f"HTTP: {transport(settings).name}")
    except ConfigError as error:
        faults += error.faults
    for name, app in settings.all_apps.items():
        if app.kind is None or list(app.faults("{}")):
            continue
        who = identity(app)
        facts.append(f"app {name}: {app.kind.value} of client {who.client_id or '(system)'} at {who.authority_url}")
        if wrong := check_credential(who, now):
            faults += [f"app {name}: {fault}" for fault in wrong]
        elif warning := ends_soon(who, now):
            facts.append(f"app {name}: WARNING {warning}")
    if settings.smtp or settings.smtp_allow:
        faults += settings.smtp_faults(over_tls=False)
    for sender, given in settings.senders.items():
        facts.append(f"sender {sender}: mailbox {given.mailbox or sender}, app {given.app}")
    names = Templates(settings.templates).names() if settings.templates.is_dir() else []
    facts.append(f"templates in {settings.templates}: {', '.join(names) or 'none'}")
    return faults, facts
