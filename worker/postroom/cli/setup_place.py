"""Which cloud or sandbox `postroom setup` works in, and who signs in there: options that its commands share."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from postroom.cli.printable import say
from postroom.settings.model import Cloud
from postroom.setup.directory import Directory
from postroom.setup.files import Files
from postroom.setup.sign_in import GRAPH_TOOLS, SignedIn, by_azure_cli, by_code
from postroom.setup.wanted import slug
from postroom.transport.http import Http
from postroom.transport.requests_http import RequestsHttp


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where Entra and Graph are, how to reach them, and how a person signs in."""

    authority_url: str
    graph_url: str
    tenant: str
    sign_in: str
    client_id: str
    http: Http

    def directory(self, person: SignedIn) -> Directory:
        """Graph, as this person may use it."""
        return Directory(self.graph_url, self.http, person.token)


_OPTIONS = (
    click.option("--tenant", envvar="POSTROOM_TENANT_ID", help="The tenant's id or domain; that of who signs in."),
    click.option(
        "--sign-in",
        "how",
        type=click.Choice(["code", "az"]),
        default="code",
        show_default=True,
        help="code: by a code in any browser; az: with the token of `az login`.",
    ),
    click.option("--client", default=GRAPH_TOOLS, help="The public client to sign in with, if not Microsoft's own."),
    click.option(
        "--cloud",
        type=click.Choice([one.value for one in Cloud]),
        envvar="POSTROOM_CLOUD",
        default=Cloud.GLOBAL.value,
        show_default=True,
        help="Which of Microsoft's clouds.",
    ),
    click.option("--graph-url", envvar="POSTROOM_GRAPH_URL", help="Another Graph, such as a sandbox's."),
    click.option("--authority-url", envvar="POSTROOM_AUTHORITY_URL", help="Another Entra, such as a sandbox's."),
    click.option(
        "--ca-bundle",
        envvar="POSTROOM_CA_BUNDLE",
        type=click.Path(exists=True, path_type=Path),
        help="CA certificates for the connections.",
    ),
)


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options, and gives the command a `place`."""

    @functools.wraps(command)
    def with_place(
        *,
        tenant: str | None,
        how: str,
        client: str,
        cloud: str,
        graph_url: str | None,
        authority_url: str | None,
        ca_bundle: Path | None,
        **given: Any,
    ) -> Any:
        one = Cloud(cloud)
        place = Place(
            authority_url=(authority_url or one.authority_url).rstrip("/"),
            graph_url=(graph_url or one.graph_url).rstrip("/"),
            tenant=tenant or "organizations",
            sign_in=how,
            client_id=client,
            http=RequestsHttp(str(ca_bundle) if ca_bundle else None),
        )
        return command(place=place, **given)

    for option in reversed(_OPTIONS):
        with_place = option(with_place)
    return with_place


def sign_in(place: Place) -> SignedIn:
    """Signs a person in. Raises SetupError."""
    if place.sign_in == "az":
        person = by_azure_cli(place.graph_url)
    else:
        person = by_code(
            place.http,
            place.authority_url,
            place.graph_url,
            place.tenant,
            place.client_id,
            lambda text: say(text, err=True),
        )
    say(f"Signed in as {person.person or 'somebody'} (tenant {person.tenant_id}).", err=True)
    return person


def files_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options for an app's name and its files, and gives the command `files`."""

    @click.option("--name", default="Postroom", show_default=True, help="The app's name; it is found again by it.")
    @click.option(
        "--certificate",
        type=click.Path(dir_okay=False, path_type=Path),
        show_default="NAME.pem",
        help="The file for the key and its certificate.",
    )
    @click.option(
        "--settings",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path(".env"),
        show_default=True,
        help="The file that gets the settings; postroom.toml gets a further app.",
    )
    @functools.wraps(command)
    def with_files(*, name: str, certificate: Path | None, settings: Path, **given: Any) -> Any:
        return command(files=Files(name, certificate or Path(f"{slug(name)}.pem"), settings), **given)

    return with_files
