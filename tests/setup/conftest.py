"""A sandbox over TLS, an administrator who signed in there, and a folder for the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from postroom.sandbox import SandboxAddress, SandboxOptions, running
from postroom.sandbox.control import Sandbox
from postroom.sandbox.options import People
from postroom.setup.apply import Site
from postroom.setup.directory import Directory
from postroom.setup.files import Files
from postroom.setup.look import Looker
from postroom.setup.senders import resolve
from postroom.setup.wanted import Feature, Wanted
from postroom.transport.http import Http
from postroom.transport.requests_http import RequestsHttp
from tests.sandbox.administrator import Administrator

NAME = "Mail worker"
OPTIONS = SandboxOptions(
    device_interval=1,
    mailboxes=("noreply@contoso.com", "office@contoso.com", "admin@contoso.com", "ann@contoso.com"),
    groups=(
        People(name="Mail senders", address="mail-senders@contoso.com", members=("noreply@contoso.com",)),
        People(name="Nested", address="nested@contoso.com", members=("mail-senders@contoso.com",)),
        People(name="Twice", address="one@contoso.com"),
        People(name="Twice", address="two@contoso.com"),
    ),
)


@pytest.fixture(scope="session")
def address() -> Iterator[SandboxAddress]:
    with running(OPTIONS) as address:
        yield address


@pytest.fixture(scope="session")
def control(address: SandboxAddress) -> Iterator[Sandbox]:
    with Sandbox.at(address) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(control: Sandbox) -> Sandbox:
    control.reset()
    return control


@dataclass
class Room:
    """Where one test sets an app up."""

    sandbox: Sandbox
    address: SandboxAddress
    folder: Path
    http: Http
    token: Callable[[], str] = lambda: ""

    def sign_in(self, user: str = "admin@contoso.com") -> None:
        admin = Administrator.at(self.sandbox, self.address, user)
        token = str(admin.session.headers["Authorization"]).removeprefix("Bearer ")
        self.token = lambda: token

    def sleep(self, seconds: float) -> None:
        """Nobody waits: the sandbox's clock is put forward instead."""
        self.sandbox.change_directory(advance=seconds)

    def directory(self, http: Http | None = None) -> Directory:
        return Directory(self.address.graph_url, http or self.http, self.token, self.sleep)

    def site(self, http: Http | None = None, settings: str = ".env") -> Site:
        directory = self.directory(http)
        files = Files(NAME, self.folder / "mail-worker.pem", self.folder / settings)
        return Site(directory, Looker(directory), files, self.address.tenant_id, sleep=self.sleep)

    def wanted(self, *senders: str, features: tuple[Feature, ...] = (), units: tuple[str, ...] = ()) -> Wanted:
        scopes = resolve(self.directory(), list(senders or ("mail-senders@contoso.com",)), list(units))
        return Wanted(name=NAME, scopes=scopes, features=frozenset(features))

    def made(self) -> dict[str, int]:
        return self.sandbox.change_directory()


@pytest.fixture
def room(sandbox: Sandbox, address: SandboxAddress, tmp_path: Path) -> Room:
    room = Room(sandbox, address, tmp_path, RequestsHttp(address.ca_file))
    room.sign_in()
    return room
