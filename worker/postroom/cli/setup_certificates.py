"""`postroom setup certificate` and `rotate`: keys and certificates of apps, made here."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from postroom.cli.options import fail
from postroom.cli.printable import say
from postroom.cli.setup_place import Place, files_options, place_options, sign_in
from postroom.errors import ConfigError
from postroom.graph.credentials import Certificate, CredentialFault, Identity
from postroom.graph.tokens import Token, Tokens
from postroom.setup import certificates
from postroom.setup.directory import Directory
from postroom.setup.files import Files
from postroom.setup.look import Looker
from postroom.setup.renewing import alone
from postroom.setup.rotation import AdministratorKeeper, OwnKeeper, Rotated, Rotation

PORTAL = (
    "In the portal (entra.microsoft.com):",
    "  1. App registrations, your app, Certificates & secrets, tab Certificates, Upload certificate.",
    "  2. Choose {certificate} and press Add.",
    "  3. The thumbprint that is shown then has to be {sha1}.",
)


@click.command()
@click.option("--name", default="Postroom", show_default=True, help="The name in the certificate.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("postroom.pem"),
    show_default=True,
    help="The file for key and certificate: PEM, or PFX if it ends with .pfx.",
)
@click.option("--days", type=click.IntRange(1, 1095), default=365, show_default=True, help="How long it is valid.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the password of a PFX file; asked for if not given.",
)
def certificate(name: str, out: Path, days: int, password_file: Path | None) -> None:
    """Make a key and a certificate, for who registers the app by hand.

    The key (RSA 3072) is made here and stays in the file, which only you may read. Prints the thumbprints, the entry
    for Graph's keyCredentials, and the way in the portal. Overwrites nothing.
    """
    public = out.with_suffix(".cer.pem")
    for path in (out, public):
        if path.exists():
            fail(1, f"{path} is there already, and is not overwritten. Give another file with --out.")
    pair = certificates.make(name, timedelta(days=days), datetime.now(UTC))
    if out.suffix.casefold() == ".pfx":
        certificates.write_private(out, pair.pfx(name, _password(password_file)))
    else:
        certificates.write_private(out, pair.pem)
    public.write_bytes(pair.certificate_pem)
    say(f"Key and certificate: {out} (POSTROOM_CLIENT_CERTIFICATE)")
    say(f"Certificate alone:   {public} (for Entra)")
    say(f"Valid until:         {pair.ends:%Y-%m-%d}")
    say(f"SHA-1 thumbprint:    {pair.sha1}")
    say(f"SHA-256 thumbprint:  {pair.sha256}")
    say("")
    for line in PORTAL:
        say(line.format(certificate=public, sha1=pair.sha1))
    say("")
    say(f"With the Azure CLI: az ad app credential reset --id CLIENT_ID --cert @{public} --append")
    say("With Graph: PATCH /v1.0/applications/OBJECT_ID, the entries that are there already and this one:")
    say(json.dumps({"keyCredentials": [pair.entry(name)]}, indent=2))


def _password(file: Path | None) -> str:
    given = file.read_text(encoding="utf-8").rstrip("\r\n") if file else ""
    return given or str(click.prompt("Password of the PFX file", hide_input=True, confirmation_prompt=True))


@click.command()
@files_options
@click.option(
    "--days", type=click.IntRange(1, 1095), help="The new certificate's life; that of the old one if not given."
)
@click.option("--by", type=click.Choice(["app", "admin"]), default="app", show_default=True, help="Who asks Entra.")
@click.option("--client-id", envvar="POSTROOM_CLIENT_ID", help="The app's client id, for --by app.")
@place_options
def rotate(place: Place, files: Files, days: int | None, by: str, client_id: str | None) -> None:
    """Replace the certificate by a new one, without a gap.

    The app itself asks Entra for that and proves that it has the old key (--by app), or an administrator signs in (--by
    admin). The file is replaced when Entra takes the new certificate. The old one is removed from Entra by the next
    call that is more than a day later. A call that was killed is finished by the next one.
    """
    try:
        own = certificates.read(files.certificate)
    except CredentialFault as fault:
        fail(1, str(fault), "Only a PEM file with its key can be replaced.")
    if not os.access(files.certificate.parent, os.W_OK):
        fail(1, f"{files.certificate.parent} cannot be written to, so the file cannot be replaced.")
    rotation = _by_admin(place, files) if by == "admin" else _by_app(place, files, client_id)
    life = timedelta(days=days) if days else None
    with alone(files.certificate) as mine:
        if not mine:
            fail(1, f"A worker or another command replaces {files.certificate} at this moment.")
        done = rotation.run(timedelta(0), life=life)
    say(f"{files.certificate}: {done}.")
    if done is Rotated.SWITCHED:
        new = certificates.read(files.certificate)
        say(f"Old thumbprint: {own.sha1}, new: {new.sha1}, valid until {new.ends:%Y-%m-%d}.")
        say("Workers take it with their next token. Run this again in more than a day: it removes the old one.")
    elif done is Rotated.WAITING:
        fail(1, "Run this again in some minutes; it goes on from here.")


def _by_app(place: Place, files: Files, client_id: str | None) -> Rotation:
    if not client_id or place.tenant == "organizations":
        raise ConfigError(["POSTROOM_TENANT_ID or POSTROOM_CLIENT_ID is missing (--tenant, --client-id)"])
    identity = _identity(place, place.tenant, client_id, files)
    tokens = Tokens(identity, place.http)

    def token() -> str:
        found = tokens.get()
        if not isinstance(found, Token):
            fail(1, f"{files.certificate}: Entra gives no token for it: {found.answer.detail or found}")
        return found.value

    return Rotation(identity, place.http, OwnKeeper(Directory(place.graph_url, place.http, token)), files.certificate)


def _by_admin(place: Place, files: Files) -> Rotation:
    person = sign_in(place)
    directory = place.directory(person)
    found = Looker(directory).look(files.name, files)
    if not found.object_id:
        fail(1, f"There is no app {files.name!r} that `postroom setup app` has made in this tenant (--name).")
    identity = _identity(place, person.tenant_id, found.app_id, files)
    return Rotation(
        identity, place.http, AdministratorKeeper(directory, found.object_id, files.name), files.certificate
    )


def _identity(place: Place, tenant: str, client_id: str, files: Files) -> Identity:
    return Identity(
        tenant_id=tenant,
        client_id=client_id,
        authority_url=place.authority_url,
        graph_url=place.graph_url,
        credential=Certificate(files.certificate),
    )
