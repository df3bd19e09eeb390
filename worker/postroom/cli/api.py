"""The commands around the HTTP door: `api`, `keys …`, `events …`."""

import sys
from pathlib import Path
from typing import NoReturn

import click

from postroom.access.api_keys import ApiKey, ApiKeys, Scope
from postroom.cli import output as show
from postroom.cli.options import JSON, fail
from postroom.mail.address import Address
from postroom.settings.loading import load_settings
from postroom.settings.values import rates
from postroom.store.connection import connect

TIMEOUT_S = 5.0
COMMANDS: list[click.Command] = []


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@JSON
def api(host: str, port: int, as_json: bool) -> None:
    """Serve the HTTP API, until SIGTERM or Ctrl-C.

    Prints its address once it listens. On the first signal it finishes what it has begun, at most 30 s; a second one
    stops at once. `postroom keys create` makes the keys that it asks for.
    """
    try:
        from postroom.api import ApiOptions, open_services, serve  # noqa: PLC0415 - an extra
    except ImportError as error:
        _needs_extra(error)
    from postroom.telemetry import logs  # noqa: PLC0415 - takes longer than most commands

    found = load_settings()
    services = open_services(found, logs.start(found.log_format))

    def tell(url: str) -> None:
        click.echo(show.as_json({"url": url}, indent=None) if as_json else f"The API listens on {url}")
        sys.stdout.flush()
        services.emit("api.ready", rules=len(services.rules.rules) if services.rules else 0)

    try:
        serve(ApiOptions(host=host, port=port), services, tell)
    except OSError as error:
        fail(1, str(error.strerror or error))


COMMANDS.append(api)


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of the HTTP API."""


COMMANDS.append(keys)


@keys.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="What it may do; may be given several times.",
)
@click.option("--sender", "senders", multiple=True, help="Only mail from this address; may be given several times.")
@click.option("--rate", default="600/min", show_default=True, help="At most so many requests in such a time.")
@JSON
def create(name: str, scopes: tuple[str, ...], senders: tuple[str, ...], rate: str, as_json: bool) -> None:
    """Make a key, and print it this once: what is kept of it is a hash.

    A key with senders neither sends nor sees nor operates mail of others.
    """
    addresses = [_address(sender).address for sender in senders]
    key, secret = _keys().create(name, map(Scope, scopes), addresses, _rate(rate))
    click.echo(show.as_json({"key": secret, **_facts(key)}) if as_json else secret)
    if not as_json:
        click.echo(f"This is the key {key.name}. It is shown only now.", err=True)


@keys.command("list")
@JSON
def list_(as_json: bool) -> None:
    """Show all keys, with what each may do and the day of its last use."""
    found = _keys().list()
    if as_json:
        click.echo(show.as_json([_facts(key) for key in found]))
    elif found:
        console = show.console()
        console.print(show.api_keys(found, console.width))
    else:
        click.echo("There are no keys. postroom keys create makes one.", err=True)


@keys.command("revoke")
@click.argument("name")
def revoke(name: str) -> None:
    """End a key, by its NAME or id. It works no longer from then on."""
    click.echo(f"Key {_keys().revoke(name).name} is revoked.")


@click.group()
def events() -> None:
    """Try the rules that make mails of events."""


COMMANDS.append(events)


@events.command("check")
@click.argument("samples", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--rules", type=click.Path(path_type=Path), help="The file of rules; POSTROOM_EVENTS if not given.")
@JSON
def check(samples: tuple[Path, ...], rules: Path | None, as_json: bool) -> None:
    """Show what each sample event would send; nothing is sent.

    SAMPLES are files with an event or a list of events in JSON, or folders of such files. Exit 1 if one of them would
    send nothing, or a template could not be rendered with what it would be given.
    """
    try:
        from postroom.cloudevents.rules import EventRules  # noqa: PLC0415 - an extra
    except ImportError as error:
        _needs_extra(error)
    from postroom.cloudevents.preview import trials  # noqa: PLC0415 - slow to import
    from postroom.render import Templates  # noqa: PLC0415 - the same

    found = load_settings()
    file = rules or found.events
    if file is None:
        raise click.UsageError("give --rules, or set POSTROOM_EVENTS")
    parsed = EventRules.parse(file.read_text(encoding="utf-8"), str(file))
    told = list(trials(samples, parsed, Templates(found.templates), found.sender))
    click.echo(show.as_json(told) if as_json else "\n".join(show.trial(one) for one in told))
    sys.exit(1 if any(one.faults for one in told) else 0)


def _keys() -> ApiKeys:
    found = load_settings()
    return ApiKeys(connect(found.redis_url, timeout_s=TIMEOUT_S, name="postroom-keys"))


def _facts(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": key.scopes,
        "senders": key.senders,
        "rate": show.rate(key.rate),
        "created_at": key.created_at,
        "used_on": key.used_on.date() if key.used_on else None,
    }


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--sender") from None


def _rate(text: str) -> tuple[int, float]:
    try:
        found = rates(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--rate") from None
    if len(found) != 1:
        raise click.BadParameter("one rate is needed, as in 600/min", param_hint="--rate")
    return found[0]


def _needs_extra(error: ImportError) -> NoReturn:
    fail(1, f"The API needs {error.name}: pip install 'postroom[api]'")
