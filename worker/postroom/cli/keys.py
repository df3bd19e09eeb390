"""The commands around the HTTP door: `api`, `keys …`, `events …`."""

from collections.abc import Sequence

import click
from rich.console import RenderableType

from postroom.access.api_keys import ApiKey, ApiKeys
from postroom.access.rights import Scope
from postroom.cli.options import JSON
from postroom.cli.output import columns_table, open_console, printed, to_json_text
from postroom.cli.printable import say
from postroom.mail.address import Address
from postroom.settings.loading import load_settings
from postroom.settings.values import rates
from postroom.store.connection import connect

TIMEOUT_S = 5.0


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of the HTTP API."""


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
    """Make a key, and print it. It is printed only once, because only its hash is stored.

    A key with senders cannot send, see or operate mail of other senders.
    """
    addresses = [_address(sender).address for sender in senders]
    key, secret = _keys().create(name, map(Scope, scopes), addresses, _rate(rate))
    say(to_json_text({"key": secret, **_facts(key)}) if as_json else secret)
    if not as_json:
        say(f"This is the key {key.name}. It is shown only now.", err=True)


@keys.command("list")
@JSON
def list_(as_json: bool) -> None:
    """Show all keys, with their rights and the day of their last use."""
    all_keys = _keys().list()
    if as_json:
        say(to_json_text([_facts(key) for key in all_keys]))
    elif all_keys:
        console = open_console()
        console.print(keys_table(all_keys, console.width))
    else:
        say("There are no keys. postroom keys create makes one.", err=True)


@keys.command("revoke")
@click.argument("name")
def revoke(name: str) -> None:
    """Revoke a key, by its NAME or id, at once."""
    say(f"Key {_keys().revoke(name).name} is revoked.")


def _keys() -> ApiKeys:
    settings = load_settings()
    return ApiKeys(connect(settings.redis_url, timeout_s=TIMEOUT_S, name="postroom-keys"))


def _facts(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": key.scopes,
        "senders": key.senders,
        "rate": rate_text(key.rate),
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
        parsed = rates(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--rate") from None
    if len(parsed) != 1:
        raise click.BadParameter("one rate is needed, as in 600/min", param_hint="--rate")
    return parsed[0]


def keys_table(keys: Sequence[ApiKey], width: int) -> RenderableType:
    """One line per key; never the key itself."""
    columns = {
        "name": [printed(key.name) for key in keys],
        "may": [printed(", ".join(key.scopes)) for key in keys],
        "senders": [printed(", ".join(key.senders) or "all") for key in keys],
        "rate": [printed(rate_text(key.rate)) for key in keys],
        "made": [printed(f"{key.created_at:%Y-%m-%d}") for key in keys],
        "last used": [printed(f"{key.used_on:%Y-%m-%d}" if key.used_on else "never") for key in keys],
        "id": [printed(key.id) for key in keys],
    }
    return columns_table(columns, ("id", "made", "rate"), width, "name")


def rate_text(given: tuple[int, float]) -> str:
    """A rate as it is written in settings."""
    count, seconds = given
    unit = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "d"}.get(seconds)
    return f"{count}/{unit}" if unit else f"{count}/{seconds:g}s"
